-- Positions of Locations, for `near`: longitude and latitude in degrees (WGS 84).
create table position (
    rid bigint not null,
    at point not null
);
create index position_at on position using gist (at);
create index position_rid on position (rid);
