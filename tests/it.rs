//! Every integration test, in one binary: over real HTTP, at a frozen clock, with seeded chance.

mod kit;

mod apps;
mod attacks;
mod dpop;
mod house;
mod import;
mod launch;
mod leak_doors;
mod leak_matrix;
mod leak_rule;
mod par;
mod reach;
mod records;
mod relying_party;
mod restart;
mod scan;
mod search;
mod search_answers;
mod search_ranges;
mod tokens;
mod traps;
