-- How many blocks of row ids there are (store::count counts by blocks): without this the planner takes a block for each two rows.
create statistics resource_block on (rid >> 8) from resource;
