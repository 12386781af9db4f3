//! The contract suite: what every store promises, one function per promise. `store_contract!` lists them all.

pub mod claims;
pub mod due_times;
pub mod inserts;
pub mod leases;
pub mod order_policies;
pub mod ordering;
pub mod rescues;
pub mod settlements;
pub mod steps;
pub mod table;
pub mod texts;
pub mod transactions;
pub mod transitions;
pub mod volume;

/// Calls `$callback! { group::function, .. }` with every promise of the contract.
#[macro_export]
macro_rules! store_contract {
    ($callback:ident) => {
        $callback! {
            inserts::receipts_come_in_the_order_of_the_rows,
            inserts::a_taken_handle_changes_nothing_and_names_the_existing_task,
            inserts::handles_differ_by_case,
            inserts::of_many_inserts_of_one_handle_at_once_one_wins,
            inserts::a_leased_row_belongs_to_its_node_from_the_start,
            inserts::a_leased_row_with_limited_attempts_is_charged_from_the_start,
            claims::a_claim_charges_leases_and_fences,
            claims::the_oldest_due_rows_come_first_up_to_the_limit,
            claims::only_rows_of_the_asked_queue_and_priority_are_taken,
            claims::only_known_names_are_taken_and_others_are_reported,
            claims::the_scheduling_thread_and_the_workers_take_different_rows,
            claims::a_look_tells_the_rows_of_the_scheduling_thread_from_those_of_workers,
            claims::what_a_lost_claim_took_is_put_back_uncharged,
            claims::a_leased_row_is_never_claimed,
            claims::two_claims_share_four_rows,
            claims::claims_at_once_never_take_a_row_twice,
            settlements::success_ends_the_row_and_clears_its_error,
            settlements::a_retry_counts_from_the_settlement,
            settlements::a_dead_row_stays_dead,
            settlements::a_deferred_attempt_is_not_charged,
            settlements::a_release_puts_the_row_back_as_it_was,
            settlements::a_row_never_charged_is_charged_by_its_settlement,
            settlements::a_wish_to_cancel_turns_failure_into_cancelled,
            settlements::success_counts_more_than_a_wish_to_cancel,
            settlements::an_old_version_is_lost_and_changes_nothing,
            settlements::settling_twice_answers_written_twice_and_charges_once,
            settlements::follow_ups_are_stored_exactly_once,
            settlements::follow_ups_of_a_lost_lease_are_not_stored,
            settlements::a_lost_one_does_not_keep_the_others_from_being_written,
            settlements::outcomes_of_every_kind_are_written_together,
            leases::renewing_extends_exactly_the_leases_asked_for,
            leases::lost_leases_are_not_renewed,
            leases::a_renewal_tells_of_a_wish_to_cancel,
            leases::an_ended_lease_nobody_took_still_settles,
            rescues::a_lease_that_ended_makes_the_row_failed_and_due,
            rescues::a_row_inserted_leased_is_rescued_without_an_attempt,
            rescues::a_rescue_takes_at_most_its_limit,
            rescues::the_fifth_loss_in_a_row_is_the_last,
            rescues::any_settlement_of_an_attempt_clears_the_losses,
            rescues::used_up_attempts_make_the_row_dead,
            rescues::a_wish_to_cancel_is_granted_at_the_rescue,
            rescues::a_rescued_row_is_lost_to_its_old_node,
            rescues::what_a_rescue_wrote_is_not_taken_for_the_old_nodes_work,
            rescues::rescues_at_once_take_each_row_once,
            ordering::only_the_oldest_unfinished_row_of_a_key_is_taken,
            ordering::a_row_not_yet_due_holds_up_its_key,
            ordering::a_running_row_holds_up_its_key_for_everybody,
            ordering::a_failed_row_holds_up_its_key_until_it_is_through,
            ordering::a_dead_row_holds_up_its_key_and_no_other,
            ordering::a_cancelled_row_lets_its_key_go_on,
            ordering::a_lost_row_stays_first_of_its_key,
            ordering::claims_at_once_keep_the_order_of_each_key,
            order_policies::a_parked_row_lets_its_key_go_on,
            order_policies::a_skipped_row_lets_its_key_go_on_and_keeps_its_error,
            order_policies::a_rescue_that_gives_up_follows_the_policy,
            order_policies::a_row_without_a_key_is_dead_when_it_is_given_up,
            order_policies::a_parked_row_put_back_never_runs_beside_another,
            order_policies::a_cancelled_row_put_back_never_runs_beside_another,
            order_policies::rows_put_back_while_others_are_claimed_never_run_beside_them,
            due_times::a_row_is_never_claimed_before_it_is_due,
            due_times::a_named_time_is_kept_to_the_fraction_of_a_second,
            due_times::a_retry_is_never_claimed_before_it_is_due,
            due_times::a_row_years_overdue_is_due,
            due_times::a_look_says_how_long_until_the_first_of_each_queue_and_priority,
            due_times::a_look_sees_only_what_can_be_claimed,
            due_times::a_look_says_when_the_first_lease_ends,
            table::an_unknown_handle_has_no_status,
            table::the_status_follows_the_row,
            table::pruning_deletes_finished_rows_alone_and_is_bounded,
            table::pruning_spares_what_changed_lately,
            table::a_pruned_handle_can_be_used_again,
            texts::every_text_comes_back_as_it_was_stored,
            texts::extreme_numbers_come_back_exactly,
            texts::error_texts_come_back_as_they_were_settled,
            texts::names_and_queues_may_be_of_any_script,
            volume::empty_calls_do_nothing,
            volume::fifteen_hundred_rows_in_one_call_each,
            transactions::a_body_that_succeeds_completes_its_row,
            transactions::a_body_that_fails_leaves_its_row_to_be_settled,
            transactions::a_body_that_lost_its_lease_completes_nothing,
            transitions::random_interleavings_move_rows_only_along_the_state_machine,
        }
    };
}
