//! The contract: what Longshore promises, whatever keeps its books and carries its messages. Each promise is kept once on
//! SQLite and the embedded courier, which doubles, reorders and drops messages on purpose, and once on PostgreSQL and
//! RabbitMQ. Objects are in a directory both times, so that a test can look into it and damage it: stores have a suite of
//! their own (`workers/src/store/suite.rs`).

use crate::rig::Parts;
use longshore_courier::embedded::Mischief;

/// Makes two tests of each promise. A function of these modules that isn't in the list is dead code, which the compiler finds.
macro_rules! promises {
    ($($file:ident::$promise:ident)*) => {
        mod embedded {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $promise() {
                    super::on_embedded(crate::$file::$promise).await;
                }
            )*
        }

        mod services {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $promise() {
                    super::on_services(crate::$file::$promise).await;
                }
            )*
        }
    };
}

promises! {
    copies::a_copy_outlives_its_source_and_its_sources_store
    copies::a_copy_that_has_to_begin_again_sends_nothing_twice
    copies::a_damaged_source_fails_its_copy_and_leaves_nothing_in_the_other_store
    copies::a_source_that_is_to_go_stays_until_its_copy_is_made
    faults::a_flipped_bit_or_a_cut_object_is_found_and_never_becomes_a_volume
    faults::a_full_store_refuses_or_lets_wait_and_the_waiting_go_on_when_there_is_room
    faults::a_missing_volume_or_snapshot_or_a_bad_image_fails_and_leaves_nothing
    faults::a_store_that_damages_what_it_is_given_and_checks_nothing_gets_no_ready_object
    faults::a_volume_of_that_name_is_never_replaced
    faults::a_volume_that_vanishes_between_two_attempts_fails_its_copy_and_nothing_stays_stored
    faults::an_object_without_its_marker_or_with_the_one_against_it_is_of_no_use
    faults::every_bad_command_has_a_fault_of_its_own_and_changes_nothing
    generic::a_fault_at_every_step_unwinds_to_a_clean_slate_and_so_does_unwinding_twice
    generic::every_step_done_twice_leaves_what_once_leaves
    history::nobody_changes_the_history_and_what_was_forced_is_found
    random_volumes::random_volumes_equal_their_model
    requests::a_cancel_of_a_ready_object_is_too_late
    requests::a_cancel_while_committing_is_decided_by_the_probe
    requests::a_cancel_while_copying_stops_the_worker_and_undoes
    requests::a_cancel_while_measuring_fails_at_once
    requests::a_held_object_is_destroyed_only_when_the_last_holder_is_done
    requests::a_volume_that_is_made_without_a_format_is_what_its_name_says_and_backs_up_to_the_same_disk
    requests::an_abandoned_undo_stays_booked_as_remains
    requests::of_two_backups_of_one_volume_at_once_the_second_is_told_and_goes_through_later
    sparse::mostly_dead_packs_go
    tenants::one_message_id_of_two_users_or_of_two_tenants_is_several_commands
    two_places::two_stores_and_two_pools_of_one_site_keep_to_themselves
    waiting::of_those_who_wait_for_space_the_one_of_the_highest_priority_goes_first
    waiting::what_is_at_work_when_the_deadline_of_its_command_passes_fails_and_is_undone
    walkthrough::a_destroyed_object_is_swept_and_its_bytes_come_back
    walkthrough::a_destroyed_volume_is_removed_unless_it_is_somebody_elses_by_now
    walkthrough::a_full_copy_because_of_a_damaged_base_keeps_nothing_of_the_base
    walkthrough::a_raw_volume_that_looks_like_a_qcow2_comes_back_byte_for_byte
    walkthrough::the_main_job_on_qcow2
    walkthrough::the_main_job_on_raw
    walkthrough::the_same_message_gets_the_same_answer_for_ever
}

// What is about one set of parts, or about neither, has tests elsewhere:
//
// - `chaos`, `processes`: parts that die alone. With the embedded courier, engine and worker are one process.
// - `requests::two_engines_on_one_database_do_everything_once`: SQLite has one engine.
// - `copies`, on S3 and a directory: between stores of different kinds, both ways.
// - `command_line`: the embedded set as a user meets it, with its lock and its socket.
// - `growth`, `one_statement`: what each database is asked, statement by statement.
// - `backends`, `encryption`: the suites of courier and store on RabbitMQ and S3, and TLS.
// - `store_exchanged`, `store_faults`, `store_leftovers`, and the same promises on S3 in `random_volumes`, `sparse` and
//   `walkthrough`: between a worker and its store.
// - `faults::a_volume_that_vanishes_while_it_is_copied_is_copied_whole`: between a worker and its host.
// - `golden`: what is read and written, whoever asks for it.

async fn on_embedded(promise: impl AsyncFnOnce(Parts) -> Mischief) {
    let done = Box::pin(promise(Parts::Embedded)).await;
    assert!(
        done.doubled > 0 && done.dropped > 0 && done.reordered > 0,
        "the channels were too good: {done:?}. A promise is kept on a rig that isn't calm, with two commands at the least"
    );
}

async fn on_services(promise: impl AsyncFnOnce(Parts) -> Mischief) {
    Box::pin(promise(Parts::ServicesDirectory)).await;
}
