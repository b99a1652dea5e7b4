//! Attacks that must fail: each row of the list (`attacks.md`, kept outside this repository) has its tests
//! here, or the reason why there are none yet.

use std::collections::BTreeSet;

mod assertions;
mod authorize;
mod browser;
mod client_auth;
mod fhir;
mod forms;
pub mod hands;
mod key_sets;
mod launch;
mod redirects;
mod refresh;
mod registration;
mod token;

/// One row of the list.
struct Row {
    number: u8,
    name: &'static str,
    tests: &'static [&'static str],
    /// What of it is not tested, since its door is not built; empty where all of it is.
    not_yet: &'static str,
}

const fn row(number: u8, name: &'static str, tests: &'static [&'static str]) -> Row {
    Row { number, name, tests, not_yet: "" }
}

impl Row {
    const fn but(self, not_yet: &'static str) -> Row {
        Row { not_yet, ..self }
    }
}

const fn later(number: u8, name: &'static str, not_yet: &'static str) -> Row {
    Row { number, name, tests: &[], not_yet }
}

#[rustfmt::skip]
const ROWS: [Row; 78] = [
    row(1, "unknown app", &["an_unknown_app_gets_a_page_and_no_redirect"]),
    row(2, "unregistered redirect", &["a_redirect_that_is_not_registered_gets_a_page"]),
    row(3, "nearly the redirect", &["a_redirect_that_differs_in_one_character_gets_a_page"]),
    row(4, "backslash and at sign", &["a_redirect_with_a_foreign_host_behind_an_at_sign_gets_a_page"]),
    row(5, "fragment", &["a_redirect_with_a_fragment_gets_a_page"]),
    row(6, "dangerous redirects at registration", &["a_redirect_that_could_lead_anywhere_cannot_be_registered"]),
    row(7, "localhost as a prefix", &["a_host_that_only_begins_like_localhost_gets_a_page"]),
    row(8, "loopback ports", &["only_a_native_app_may_change_the_port_of_a_loopback_address"]),
    row(9, "repeated parameters", &["a_repeated_parameter_is_refused_by_its_name"]),
    row(10, "response types", &["only_the_code_flow_is_served"]),
    row(11, "no PKCE", &["no_app_goes_without_pkce",
        "the_exemption_from_pkce_ends_with_any_word_that_is_not_about_who_somebody_is",
        "an_app_that_is_not_registered_for_it_or_proves_nothing_needs_pkce",
        "pkce_that_an_exempt_app_sends_is_enforced_all_the_same"]),
    row(12, "PKCE method", &["pkce_is_s256_and_nothing_else"]),
    row(13, "form of the challenge", &["a_challenge_is_43_base64url_characters"]),
    row(14, "state", &["a_state_is_needed_and_echoed_byte_for_byte_up_to_its_limit"]),
    row(15, "aud", &["aud_must_be_this_server"]),
    row(16, "launch handles", &["a_handle_that_is_made_up_used_expired_or_another_apps_begins_nothing",
        "a_handle_is_good_for_its_own_server_only",
        "a_handle_in_another_persons_hands_gives_neither_record_nor_code",
        "no_web_page_and_no_other_name_of_this_machine_launches_anything",
        "of_two_browsers_with_one_handle_one_gets_a_code_and_the_other_is_told_why_not"]),
    row(17, "endless scope", &["a_scope_no_app_would_send_is_refused_before_it_is_read"]),
    row(18, "odd scopes", &["a_scope_that_is_not_understood_is_left_out_and_never_widened"]),
    row(19, "system scopes", &["a_person_cannot_grant_system_scopes"]),
    row(20, "prompt=none", &["prompt_none_shows_no_page_and_grants_nothing",
        "who_once_told_a_confidential_app_who_they_are_is_not_asked_again",
        "another_patient_is_chosen_and_asked_about_again"]),
    row(21, "max_age", &["max_age_0_asks_for_the_password_again",
        "an_apps_default_max_age_counts_where_a_request_says_nothing"]),
    row(22, "request objects", &["request_objects_are_refused_and_never_fetched",
        "a_request_uri_is_good_once_in_its_time_and_for_its_app"]),
    row(23, "form tokens", &["a_form_without_this_browsers_own_token_is_refused",
        "a_page_shown_to_one_person_is_no_consent_of_the_next"]),
    row(24, "edited consent form", &["a_consent_form_cannot_be_edited", "a_public_app_is_never_remembered_and_never_offers_to_be",
        "an_old_consent_page_is_no_consent_for_another_patient"]),
    row(25, "clickjacking", &["no_page_can_be_framed"]).but("no launcher, which alone may frame"),
    row(26, "other spellings of a path", &["an_address_written_in_another_way_is_another_address"]),
    row(27, "error answers", &["error_answers_carry_state_and_issuer_and_pages_escape_what_came"]),
    row(28, "code twice", &["a_code_used_twice_is_refused_and_all_its_tokens_are_dead_at_once",
        "a_code_is_used_twice_even_after_its_minute"]),
    row(29, "code in parallel", &["of_32_redemptions_at_once_exactly_one_succeeds"]),
    row(30, "code late", &["a_code_lives_a_minute_to_the_millisecond"]),
    row(31, "code of another app", &["a_stranger_cannot_exchange_a_code_nor_burn_it"]),
    row(32, "redirect at the exchange", &["a_code_needs_the_redirect_it_was_sent_to"]),
    row(33, "verifier", &["a_code_needs_its_verifier"]),
    row(34, "code elsewhere", &["a_code_travels_in_a_form_body_and_nowhere_else"]),
    row(35, "endless form", &["an_endless_form_is_refused"]),
    row(36, "grant types", &["an_absent_grant_type_is_invalid_request",
        "grant_types_that_were_never_safe_are_unsupported"]),
    row(37, "person disabled before the exchange", &["a_person_shut_out_between_code_and_exchange_gets_no_token"]),
    row(38, "wrong secrets", &["a_wrong_or_missing_secret_is_refused", "a_secret_in_the_url_proves_nothing",
        "a_secret_for_an_app_that_has_none_is_refused"]),
    row(39, "two proofs", &["two_ways_of_proving_at_once_are_refused",
        "an_assertion_and_a_secret_at_once_are_refused"]),
    row(40, "encoded Basic", &["name_and_secret_in_the_header_may_be_form_encoded"]),
    row(41, "by the registered method only", &["a_public_app_does_not_become_another_by_an_empty_secret",
        "an_assertion_counts_in_the_form_by_its_own_type_and_for_apps_that_are_registered_for_it"]),
    row(42, "forged assertions", &["an_assertion_that_the_apps_own_key_did_not_sign_proves_nothing",
        "a_key_signs_by_its_own_algorithm_only",
        "an_assertion_that_is_no_plain_signed_jwt_is_refused"]),
    row(43, "audience of assertions", &["an_assertion_must_be_for_this_servers_token_endpoint_alone"]),
    row(44, "times of assertions", &["an_assertion_is_good_for_minutes_by_this_servers_clock"]),
    row(45, "jti twice", &["an_assertion_is_used_once_whatever_it_was_used_for",
        "a_jti_counts_for_its_own_app_and_only_where_the_signature_holds",
        "of_32_uses_of_an_assertion_at_once_exactly_one_succeeds",
        "an_assertion_stays_used_after_a_restart"]),
    row(46, "iss and sub of assertions", &["an_assertion_is_from_the_app_itself"]),
    row(47, "keys of assertions", &["a_key_is_named_by_its_kid_and_found_among_the_apps_own_alone",
        "a_key_that_the_sender_brings_or_points_to_is_neither_used_nor_fetched"]),
    row(48, "fetching keys", &["keys_that_do_not_come_as_a_plain_json_set_within_time_and_size_are_not_used",
        "addresses_that_are_no_web_addresses_of_others_are_never_called",
        "production_calls_neither_its_own_machine_nor_plain_http"]),
    row(49, "constant time", &["every_secret_is_compared_in_constant_time"]),
    row(50, "refresh token again", &["a_refresh_token_used_again_after_the_grace_time_ends_the_grant",
        "a_refresh_token_whose_successor_was_used_gives_nothing_even_within_the_grace_time"]),
    row(51, "refresh in parallel", &["of_32_refreshes_at_once_one_family_lives_on"]),
    row(52, "another app's refresh token", &["another_apps_refresh_token_is_refused_and_not_burnt"]),
    row(53, "scope of a refresh", &["a_refresh_can_ask_for_less_and_never_for_more",
        "a_narrow_grant_is_not_widened_by_a_refresh"]),
    row(54, "refresh after the end", &["nobody_refreshes_for_a_person_who_was_shut_out",
        "nobody_refreshes_what_was_ended",
        "an_app_is_disconnected_by_the_person_and_everything_it_holds_is_dead",
        "a_deleted_app_is_unknown_and_its_tokens_are_dead",
        "signing_out_ends_the_session_and_what_was_granted_for_its_time",
        "signing_out_by_an_app_ends_what_lasts_as_long_as_the_session_and_nothing_else"])
        .but("no passwords to change"),
    row(55, "restart", &["what_was_ended_stays_ended_after_a_restart"]),
    row(56, "online_access", &["online_access_ends_with_the_session"]),
    row(57, "refresh answer", &["a_refresh_answer_repeats_the_context_and_names_the_same_person"]),
    row(58, "who may introspect", &["whoever_proves_nothing_introspects_nothing",
        "whoever_signs_badly_introspects_and_revokes_nothing"]),
    row(59, "what introspection says", &["of_a_token_that_is_dead_or_another_apps_nothing_is_said"]),
    row(60, "revocation", &["a_token_that_was_given_back_is_dead_at_the_next_call"])
        .but("a failing store is not simulated here; `store/sqlite.rs` tests that it answers with an error"),
    row(61, "where a token may stand", &["a_token_counts_in_one_authorization_header_only",
        "userinfo_refuses_what_is_no_sign_in"]),
    row(62, "logout by an app", &["nobody_is_sent_after_signing_out_where_the_app_did_not_register",
        "a_hint_that_is_no_id_token_of_this_server_signs_nobody_out",
        "a_hint_of_another_person_or_another_session_asks_first",
        "a_decision_counts_only_with_the_pages_own_form_token"]),
    row(63, "registration", &["no_redirects_and_a_thousand_redirects_are_refused",
        "a_logo_or_launch_address_that_is_no_web_address_is_refused",
        "keys_that_are_private_or_shared_cannot_be_registered",
        "keys_that_are_private_shared_weak_or_nobodys_are_not_registered",
        "only_an_app_with_a_key_of_its_own_is_a_service",
        "what_is_registered_is_said_and_nothing_else_is",
        "an_invitation_is_good_for_so_many_apps_and_so_long"]),
    row(64, "registration access tokens", &["a_registration_access_token_manages_its_own_app_and_no_other"]),
    row(65, "other patients", &["another_patients_records_are_not_there", "no_search_finds_another_patients_records",
        "a_list_of_ids_gives_only_ones_own", "query_and_form_of_a_posted_search_hold_together",
        "a_record_that_only_seems_to_be_about_a_patient_is_not_theirs",
        "a_person_sees_under_user_scopes_only_whom_they_act_for"])
        .but("no _include, _revinclude, $everything, history, Bundle, export"),
    row(66, "granular scopes", &["a_laboratory_scope_shows_laboratory_results_whatever_is_searched_for"]),
    row(67, "letters", &["reading_is_not_searching_and_searching_is_not_reading",
        "a_sign_in_alone_opens_one_resource_or_none"]),
    later(68, "writes", "no FHIR writes"),
    later(69, "upstream proxy", "no upstream"),
    row(70, "depth", &["endless_and_deep_searches_are_refused"]).but("no FHIR writes, which alone take deep resources"),
    later(71, "lockout", "no passwords of people's own; `limits.rs` slows guessing by address, and no account is locked"),
    later(72, "TOTP", "no second factor"),
    row(73, "sessions", &["the_session_is_new_at_each_sign_in_and_the_old_one_is_dead",
        "a_session_that_was_signed_out_is_dead_on_the_server_whoever_keeps_its_cookie",
        "another_persons_refresh_token_never_turns_into_ones_own"]),
    row(74, "names", &["names_with_markup_and_direction_marks_stay_names_on_every_page"]),
    later(75, "federation", "no federation"),
    row(76, "forged host", &["a_forged_host_changes_no_address"]),
    row(77, "open redirect", &["signing_in_leads_back_to_this_server_whatever_the_address_says"]),
    row(78, "delegate revoked", &["whoever_may_no_longer_act_for_a_patient_gets_no_further_token"]),
];

const SOURCES: [&str; 12] = [
    include_str!("attacks/assertions.rs"),
    include_str!("attacks/authorize.rs"),
    include_str!("attacks/browser.rs"),
    include_str!("attacks/client_auth.rs"),
    include_str!("attacks/fhir.rs"),
    include_str!("attacks/forms.rs"),
    include_str!("attacks/key_sets.rs"),
    include_str!("attacks/launch.rs"),
    include_str!("attacks/redirects.rs"),
    include_str!("attacks/refresh.rs"),
    include_str!("attacks/registration.rs"),
    include_str!("attacks/token.rs"),
];

/// Tests elsewhere that a row may name too.
const BESIDE: [&str; 9] = [
    include_str!("apps.rs"),
    include_str!("ehr_launch.rs"),
    include_str!("invitations.rs"),
    include_str!("launch.rs"),
    include_str!("logout.rs"),
    include_str!("services.rs"),
    include_str!("services_proof.rs"),
    include_str!("sign_in.rs"),
    include_str!("tokens.rs"),
];

#[test]
fn every_row_of_the_list_has_its_tests_or_the_reason_why_not() {
    let numbers: Vec<u8> = ROWS.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=78).collect::<Vec<u8>>());
    let mut named = BTreeSet::new();
    for Row { number, name, tests, not_yet } in &ROWS {
        assert!(!tests.is_empty() || !not_yet.is_empty(), "{number} ({name}) has neither");
        for test in *tests {
            let is_here = SOURCES.iter().chain(&BESIDE).any(|source| source.contains(&format!("fn {test}(")));
            assert!(is_here, "{number} ({name}) names `{test}`, which is nowhere");
            assert!(named.insert(*test), "`{test}` is named twice");
        }
    }
    for source in SOURCES {
        let tests = source.lines().zip(source.lines().skip(1));
        for (_, head) in tests.filter(|(above, _)| above.starts_with("#[tokio::test") || *above == "#[test]")
        {
            let name = head.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).expect("a test");
            assert!(named.contains(name), "`{name}` has no row");
        }
    }
}
