//! Every integration test, in one binary: over real HTTP, at a frozen clock, with seeded chance.

mod kit;

mod app_form;
mod app_secrets;
mod apps;
mod attacks;
mod house;
mod import;
mod invitations;
mod launch;
mod leak_doors;
mod leak_matrix;
mod leak_rule;
mod limits;
mod reach;
mod records;
mod registration;
mod relying_party;
mod restart;
mod scan;
mod search;
mod search_answers;
mod search_ranges;
mod tokens;
mod traps;
