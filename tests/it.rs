//! Every integration test, in one binary: over real HTTP, at a frozen clock, with seeded chance.

mod key_server;
mod kit;
mod signer;

mod apps;
mod attacks;

mod ehr_launch;
mod families;
mod house;
mod import;
mod key_cache;
mod key_rotation;
mod launch;
mod launcher;
mod leak_doors;
mod leak_matrix;
mod leak_rule;
mod reach;
mod records;
mod relying_party;
mod restart;
mod scan;
mod search;
mod search_answers;
mod search_ranges;
mod services;
mod services_proof;
mod tokens;
mod traps;
