//! Attesters and their budgets, on both databases.

use tocyn_issuer::attester::{Attester, Budgets};
use tocyn_issuer::store::{Charge, Refusal, Rules};

use crate::fixture::{On, RULES, VOUCHER, charge, charge_one, database, on_both, store};
use tocyn_issuer::store::Store;
use tocyn_protocol::pairing::Pairing;
use tocyn_service::doctor::Standing;

const ALLOWANCE: [u8; 32] = [2; 32];

on_both!(
    an_allowance_is_filled_up_once_in_each_epoch,
    a_budget_bounds_all_of_an_attester_and_the_total_all_of_them,
    what_is_off_is_refused_but_for_repeats,
    shared_accounts_are_no_vouchers,
    issuers_that_share_a_budget_do_not_overdraw_it,
    the_ledger_names_an_excess,
    a_new_pairing_begins_with_nothing,
    a_planned_renewal_forgets_nothing_and_is_not_taken_back,
);

fn on(account: [u8; 32], body: u8, tokens: usize, epoch: u64) -> Charge {
    Charge { code_hash: account, body_hash: [body; 32], tokens, epoch: Some(epoch) }
}

fn budgets(total: u64, each: [Option<u64>; 5]) -> Rules {
    Rules { budgets: Budgets { total, each }, ..RULES }
}

async fn an_allowance_is_filled_up_once_in_each_epoch(db: On) {
    let (_dir, store) = store(db).await;
    store.create_vouchers(&[ALLOWANCE], Attester::Allowance, 32, 1000).await.unwrap();
    let ask = async |body, tokens, epoch| {
        charge_one(&store, on(ALLOWANCE, body, tokens, epoch), RULES, 10).await
    };
    assert_eq!(ask(1, 32, 5).await, Ok(5));
    assert_eq!(ask(2, 1, 5).await, Err(Refusal::Exhausted(0)));
    assert_eq!(ask(3, 16, 6).await, Ok(6), "a new epoch");
    assert_eq!(ask(4, 16, 5).await, Ok(5), "the last one, within its grace: no second filling");
    assert_eq!(ask(5, 1, 6).await, Err(Refusal::Exhausted(0)));
    assert_eq!(ask(6, 33, 9).await, Err(Refusal::Exhausted(32)), "never more than it is for");
    assert_eq!(ask(7, 32, 9).await, Ok(9), "what was left of earlier ones is not added");
    // Both epochs of the grace in one transaction: the second fills up what the first has drawn.
    let both = [on(ALLOWANCE, 20, 32, 20), on(ALLOWANCE, 21, 32, 21), on(ALLOWANCE, 22, 1, 21)];
    let outcomes = store.charge_batch(&both, RULES, 10).await.unwrap();
    assert_eq!(outcomes, [Ok(20), Ok(21), Err(Refusal::Exhausted(0))]);
    // A clock that is set back fills nothing up.
    assert_eq!(ask(8, 1, 8).await, Err(Refusal::Exhausted(0)));
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
    let row = &store.list_vouchers().await.unwrap()[0];
    assert_eq!((row.attester, row.granted, row.state(10)), (Attester::Allowance, 32, "usable"));
}

async fn a_budget_bounds_all_of_an_attester_and_the_total_all_of_them(db: On) {
    let (_dir, store) = store(db).await;
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 1000, 1000).await.unwrap();
    store.create_vouchers(&[ALLOWANCE], Attester::Allowance, 1000, 1000).await.unwrap();
    let rules = budgets(100, [Some(64), Some(0), None, None, None]);
    let ask = async |charge| charge_one(&store, charge, rules, 10).await;
    assert_eq!(ask(charge(1, 48)).await, Ok(5));
    assert_eq!(ask(charge(2, 17)).await, Err(Refusal::BudgetSpent(16)));
    assert_eq!(ask(charge(2, 16)).await, Ok(5));
    assert_eq!(ask(charge(1, 48)).await, Ok(5), "a repeat costs no budget");
    assert_eq!(ask(on(ALLOWANCE, 3, 40, 5)).await, Err(Refusal::BudgetSpent(36)));
    assert_eq!(ask(on(ALLOWANCE, 3, 36, 5)).await, Ok(5));
    // Within one transaction, too.
    let batch = [on(ALLOWANCE, 4, 60, 6), charge_in(7, 40, 6), on(ALLOWANCE, 5, 1, 6)];
    let outcomes = store.charge_batch(&batch, rules, 10).await.unwrap();
    assert_eq!(outcomes, [Ok(6), Ok(6), Err(Refusal::BudgetSpent(0))]);
    // What was refused took nothing from the vouchers.
    let left: Vec<u64> =
        store.list_vouchers().await.unwrap().iter().map(|row| row.balance).collect();
    assert_eq!(left, [1000 - 64 - 40, 1000 - 60]);
    assert_eq!(store.handed_out(Attester::Voucher), 104);
    assert_eq!(store.handed_out(Attester::Allowance), 96);
    let issued: Vec<_> = store.issued(0).await.unwrap();
    let issued: Vec<_> = issued.iter().map(|i| (i.epoch, i.attester, i.tokens)).collect();
    let expected = [
        (5, Attester::Voucher, 64),
        (5, Attester::Allowance, 36),
        (6, Attester::Voucher, 40),
        (6, Attester::Allowance, 60),
    ];
    let issued: Vec<_> = issued.into_iter().filter(|(_, _, tokens)| *tokens > 0).collect();
    assert_eq!(issued, expected);
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
}

fn charge_in(body: u8, tokens: usize, epoch: u64) -> Charge {
    Charge { epoch: Some(epoch), ..charge(body, tokens) }
}

async fn what_is_off_is_refused_but_for_repeats(db: On) {
    let (_dir, store) = store(db).await;
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 1000).await.unwrap();
    assert_eq!(charge_one(&store, charge(1, 16), RULES, 10).await, Ok(5));
    let off = budgets(0, [None, Some(0), Some(0), Some(0), Some(0)]);
    assert_eq!(
        charge_one(&store, charge(2, 16), off, 10).await,
        Err(Refusal::Off(Attester::Voucher))
    );
    assert_eq!(charge_one(&store, charge(1, 16), off, 10).await, Ok(5), "it was paid for");
}

async fn shared_accounts_are_no_vouchers(db: On) {
    let (_dir, store) = store(db).await;
    for _ in 0..2 {
        store.make_account(Attester::Pow).await.unwrap();
    }
    assert_eq!(store.list_vouchers().await.unwrap(), []);
    assert_eq!(store.stats().await.unwrap().vouchers, 0);
    let rules = budgets(0, [Some(0), Some(0), None, Some(40), None]);
    let account = Attester::Pow.account();
    assert!(store.knows(&account).await.unwrap());
    assert_eq!(charge_one(&store, on(account, 1, 32, 5), rules, 10).await, Ok(5));
    assert_eq!(charge_one(&store, on(account, 1, 32, 5), rules, 10).await, Ok(5), "a repeat");
    assert_eq!(
        charge_one(&store, on(account, 2, 16, 5), rules, 10).await,
        Err(Refusal::BudgetSpent(8))
    );
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
}

async fn issuers_that_share_a_budget_do_not_overdraw_it(db: On) {
    let (_dir, database) = database(db);
    let rules = budgets(160, [Some(0); 5]);
    let stores = match db {
        On::Sqlite => vec![Store::open(&database).await.unwrap()],
        On::Postgres => {
            vec![Store::open(&database).await.unwrap(), Store::open(&database).await.unwrap()]
        }
    };
    stores[0].create_vouchers(&[VOUCHER], Attester::Voucher, 10_000, 1000).await.unwrap();
    stores[0].create_vouchers(&[ALLOWANCE], Attester::Allowance, 10_000, 1000).await.unwrap();
    let mut tasks = Vec::new();
    for task in 0..8u8 {
        let store = stores[usize::from(task) % stores.len()].clone();
        let account = if task.is_multiple_of(2) { VOUCHER } else { ALLOWANCE };
        tasks.push(tokio::spawn(async move {
            let mut got = 0;
            for body in 0..10 {
                let charge = on(account, task * 10 + body, 16, 5);
                match charge_one(&store, charge, rules, 10).await {
                    Ok(_) => got += 16,
                    Err(Refusal::BudgetSpent(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            got
        }));
    }
    let mut got = 0;
    for task in tasks {
        got += task.await.unwrap();
    }
    assert_eq!(got, 160);
    assert_eq!(stores[0].check().await.unwrap(), Vec::<String>::new());
}

async fn the_ledger_names_an_excess(db: On) {
    let (_dir, store) = store(db).await;
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 1000).await.unwrap();
    charge_one(&store, charge(1, 16), RULES, 10).await.unwrap();
    assert!(store.report_redeemed(5, 16, false, 20).await.unwrap());
    let row = store.ledger().await.unwrap()[0];
    assert_eq!((row.epoch, row.issued, row.redeemed, row.excess()), (5, 16, Some(16), 0));
    assert!(store.report_redeemed(5, 18, false, 30).await.unwrap());
    assert!(!store.report_redeemed(5, 3, false, 40).await.unwrap());
    let row = store.ledger().await.unwrap()[0];
    assert_eq!((row.redeemed, row.reported_at, row.excess()), (Some(18), Some(30), 2));
    assert!(store.report_redeemed(5, 3, true, 40).await.unwrap(), "18 was a slip");
    assert_eq!(store.ledger().await.unwrap()[0].redeemed, Some(3));
    // A key that was never used here.
    assert!(store.report_redeemed(7, 1, false, 50).await.unwrap());
    assert_eq!(store.ledger().await.unwrap()[1].excess(), 1);
}

async fn a_new_pairing_begins_with_nothing(db: On) {
    let (_dir, database) = database(db);
    let store = Store::open(&database).await.unwrap();
    let pairing = Pairing::generate("i", "r", 0, 1000, &mut rand()).unwrap();
    store.bind(&pairing).await.unwrap();
    store.create_vouchers(&[ALLOWANCE], Attester::Allowance, 32, 1000).await.unwrap();
    charge_one(&store, on(ALLOWANCE, 1, 32, 5), RULES, 10).await.unwrap();
    store.report_redeemed(5, 40, false, 20).await.unwrap();
    store.close().await;
    let store = Store::open(&database).await.unwrap();
    store.bind(&pairing.successor(1, &mut rand()).unwrap()).await.unwrap();
    assert_eq!(store.ledger().await.unwrap(), []);
    // Its epochs count from 0 again, and so does the allowance.
    assert_eq!(charge_one(&store, on(ALLOWANCE, 1, 32, 4), RULES, 10).await, Ok(4));
}

async fn a_planned_renewal_forgets_nothing_and_is_not_taken_back(db: On) {
    let (_dir, database) = database(db);
    let store = Store::open(&database).await.unwrap();
    let old = Pairing::generate("i", "r", 0, 1000, &mut rand()).unwrap();
    let renewed = old.renewed(5500, &mut rand()).unwrap();
    store.bind(&old).await.unwrap();
    assert_eq!(store.standing(&renewed).await.unwrap(), Standing::Planned);
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 9000).await.unwrap();
    assert_eq!(charge_one(&store, charge(1, 16), RULES, 10).await, Ok(5));
    store.close().await;
    let store = Store::open(&database).await.unwrap();
    store.bind(&renewed).await.unwrap();
    assert_eq!(store.standing(&renewed).await.unwrap(), Standing::InUse);
    assert_eq!(store.standing(&old).await.unwrap(), Standing::Replaced);
    assert_eq!(charge_one(&store, charge(1, 16), RULES, 10).await, Ok(5), "a repeat");
    assert_eq!(store.list_vouchers().await.unwrap()[0].balance, 84, "charged once");
    let back = Store::open(&database).await.unwrap().bind(&old).await.unwrap_err().to_string();
    assert!(back.contains("from before a planned renewal"), "{back}");
    store.close().await;
    // Of two renewals of the same pairing either may be the one that the relay has.
    let sibling = old.renewed(5500, &mut rand()).unwrap();
    for pairing in [&sibling, &renewed] {
        let store = Store::open(&database).await.unwrap();
        store.bind(pairing).await.unwrap();
        assert_eq!(charge_one(&store, charge(1, 16), RULES, 10).await, Ok(5), "a repeat");
        store.close().await;
    }
}

fn rand() -> impl rand_core::CryptoRng {
    rand_core::UnwrapErr(getrandom::SysRng)
}
