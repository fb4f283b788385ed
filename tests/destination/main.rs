//! One suite for every destination: a tree, a bucket, and the twin in memory keep the same promises.

#[path = "../support/account.rs"]
mod account;
#[path = "../support/archive.rs"]
mod archive;
mod bench;
mod bucket;
mod copying;
#[path = "../support/hostile.rs"]
mod hostile;
mod suite;

/// Each test of the suite for each destination.
macro_rules! for_every_destination {
    ($($test:ident),+ $(,)?) => {
        mod tree {
            $(#[tokio::test]
            async fn $test() {
                super::suite::$test(&super::bench::Tree::new().await).await;
            })+
        }

        mod memory {
            $(#[tokio::test]
            async fn $test() {
                super::suite::$test(&super::bench::InMemory::new().await).await;
            })+
        }

        mod in_a_bucket {
            $(#[tokio::test]
            async fn $test() {
                super::suite::$test(&super::bench::InBucket::new().await).await;
            })+
        }
    };
}

for_every_destination!(
    every_key_of_the_corpus_is_stored_once_and_can_be_told_from_where_it_is,
    what_is_there_is_never_replaced,
    a_version_that_is_no_version_stops_the_batch,
    metadata_belongs_to_its_object,
    a_thousand_objects_are_published_at_once_and_each_gets_its_own_answer,
    large_bodies_are_hashed_as_they_come,
    small_files_of_our_own_are_replaced_and_are_no_copies,
    a_body_of_another_length_or_with_an_error_leaves_nothing,
    what_is_staged_is_not_visible_and_what_is_dropped_is_gone,
    a_second_process_finds_what_the_first_published,
    what_is_there_can_be_read_again_with_its_metadata,
);
