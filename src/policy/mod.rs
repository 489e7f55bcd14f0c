//! Who may see what: the predicate that every alias of a query carries.
//!
//! The compiler cannot name the `resource` table without a [`Policy`], so no query can forget it: the database that a reader
//! queries is the one in which the hidden rows do not exist. Today there is one policy, "everything that is neither deleted nor withdrawn";
//! consent, role and scope narrow it later, here.

/// State of a resource's row: `resource.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum State {
    Live = 0,
    Deleted = 1,
    /// Obscured (oscuramento): present, and for every reader as if it had never been.
    Withdrawn = 2,
}

impl State {
    pub fn from_number(number: i16) -> State {
        match number {
            0 => State::Live,
            1 => State::Deleted,
            _ => State::Withdrawn,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Everything that is neither deleted nor withdrawn.
    NotWithdrawn,
}

impl Policy {
    /// The predicate over the columns of an alias, without its name: each column is written `{alias}.column` by the compiler.
    pub fn predicate(self, alias: &str) -> String {
        match self {
            Policy::NotWithdrawn => format!("{alias}.state = 0"),
        }
    }

    /// The same for an alias of versions (`search::compile::source`): what is hidden now is hidden in all its versions, whatever it was then, and what was
    /// hidden when it was superseded has no history. A look for each version, not a join: of these the planner knows what they cost.
    pub fn predicate_of_version(self, alias: &str) -> String {
        match self {
            Policy::NotWithdrawn => {
                format!(
                    "{alias}.state = 0 and ({alias}.place = 0 or (select now.state from resource now where now.rid = {alias}.rid) <> 2)"
                )
            }
        }
    }

    /// The same for an alias of superseded versions alone.
    pub fn predicate_of_superseded(self, alias: &str) -> String {
        match self {
            Policy::NotWithdrawn => format!("(select now.state from resource now where now.rid = {alias}.rid) <> 2"),
        }
    }

    /// The same for one row already read.
    pub fn sees(self, state: State) -> bool {
        match self {
            Policy::NotWithdrawn => state == State::Live,
        }
    }
}
