//! Search parameters of one's own: SearchParameter resources that are posted to the running server (docs/adr/0011-custom-search-parameters.md).
//!
//! What their expressions read is evaluated beside the tree of the standard ones (`search::parameters`): [`syntax`] reads an expression, [`types`]
//! finds what it can give, and [`evaluate`] finds the values in a resource.

pub mod definition;
pub mod evaluate;
pub mod reading;
pub mod syntax;
pub mod types;
