//! What every source promises, checked on the bucket in memory and on S3 through the SDK alike.

#[path = "../support/account.rs"]
mod account;

/// Runs tests of one file once more, with every request made by the SDK alone: there is nothing that only one way does.
macro_rules! again_by_the_sdk_alone {
    ($($name:ident),* $(,)?) => {
        mod by_the_sdk_alone {
            $(#[test] fn $name() { crate::twins::BY_THE_SDK_ALONE.set(true); super::$name(); })*
        }
    };
}
pub(crate) use again_by_the_sdk_alone;

mod answers;
mod faults;
mod roads;
mod s3;
mod secrets;
mod suite;
mod tls;
mod twins;

use twins::{Memory, S3};

/// Runs each named check on each twin.
macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        mod memory { $(#[tokio::test] async fn $name() { crate::suite::$name(&super::Memory::new().await).await; })* }
        mod over_s3 { $(#[tokio::test] async fn $name() { crate::suite::$name(&super::S3::new().await).await; })* }
        mod over_s3_by_the_sdk_alone {
            $(#[tokio::test] async fn $name() { crate::suite::$name(&super::S3::by_the_sdk_alone().await).await; })*
        }
    };
}

checks![
    keys_come_in_the_order_of_their_bytes,
    start_after_is_exclusive_and_need_not_exist,
    many_pages_give_every_key_once,
    a_token_wins_over_start_after,
    a_delimiter_folds_keys_and_pages_through_prefixes,
    start_after_also_leaves_out_folded_prefixes_up_to_it,
    nothing_under_a_prefix_is_an_empty_last_page,
    a_token_that_was_never_given_ends_the_stream,
    answers_carry_the_services_time,
    a_listing_shows_size_tag_time_and_archive_class,
    bytes_arrive_verbatim_whatever_their_encoding_says,
    metadata_and_headers_arrive,
    a_tag_says_whether_it_is_an_md5,
    another_version_than_the_listed_one_is_refused,
    a_missing_object_is_its_own_error,
    an_archived_object_is_its_own_error,
    no_key_is_too_odd_to_list_and_fetch,
    an_empty_object_has_an_empty_body,
    a_denied_prefix_ends_the_stream_and_a_denied_object_only_itself,
    requests_are_counted_failed_ones_too,
];
