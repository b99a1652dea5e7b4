//! Every integration test, in one binary: over real HTTP, at a frozen clock, with seeded chance.

mod kit;

mod app_form;
mod app_secrets;
mod apps;
mod attacks;
mod dpop;
mod ehr_launch;
mod families;
mod house;
mod import;
mod invitations;
mod key_rotation;
mod launch;
mod launcher;
mod leak_doors;
mod leak_matrix;
mod leak_rule;
mod limits;
mod logout;
mod logout_notices;
mod par;
mod reach;
mod records;
mod registration;
mod relying_party;
mod restart;
mod scan;
mod search;
mod search_answers;
mod search_ranges;
mod sign_in;
mod smart_1;
mod tokens;
mod traps;
