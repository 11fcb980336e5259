//! Anomalies that serializable transactions exclude, one test each, headed by its definition. `t1`, `t2`, .. are
//! transactions that interleave; each test shows the interleaving in which weaker isolation goes wrong.

use etagdb::{Collection, Error, Precondition, ScanRange, Transaction, WriteBatch};

use crate::{Fixture, text};

/// What a transaction reads, as text.
fn read(txn: &Transaction, collection: &Collection, id: &str) -> Option<String> {
    let document = txn.get(collection, id).expect("get")?;
    Some(String::from_utf8(document.body.to_vec()).expect("UTF-8"))
}

/// What a transaction finds in a range, as text: `id=body`.
fn scan(txn: &Transaction, collection: &Collection, range: &ScanRange) -> Vec<String> {
    let scan = txn.scan(collection, range).expect("scan").map(|found| found.expect("entry"));
    scan.map(|(id, document)| [String::from_utf8_lossy(&id), String::from_utf8_lossy(&document.body)].join("="))
        .collect()
}

fn put(txn: &mut Transaction, collection: &Collection, id: &str, body: &str) {
    txn.put(collection, id, body, Precondition::Any).expect("put");
}

/// The commit is refused on account of this document.
#[track_caller]
fn refused(txn: Transaction, id: &str) {
    match txn.commit() {
        Err(Error::Conflict(conflict)) => assert_eq!(conflict.id, id, "{conflict}"),
        other => panic!("committed what it should not have: {other:?}"),
    }
}

fn fixture(documents: &[(&str, &str)]) -> (Fixture, Collection) {
    let fixture = Fixture::new();
    let docs = fixture.collection("docs");
    for (id, body) in documents {
        docs.put(id, body, Precondition::Absent).expect("put");
    }
    (fixture, docs)
}

/// Dirty write: t2 overwrites what t1 has written and not committed, and the two end up with some documents of each.
#[test]
fn dirty_write() {
    let (fixture, docs) = fixture(&[]);
    let (mut t1, mut t2) = (fixture.store.begin(), fixture.store.begin());
    put(&mut t1, &docs, "a", "t1");
    put(&mut t2, &docs, "a", "t2");
    put(&mut t2, &docs, "b", "t2");
    put(&mut t1, &docs, "b", "t1");
    t1.commit().expect("commit");
    t2.commit().expect("neither has read anything, so both may commit");
    assert_eq!([text(&docs, "a"), text(&docs, "b")], [Some("t2".into()), Some("t2".into())]);
}

/// Dirty read: t2 reads what t1 has written and not committed, and then t1 aborts.
#[test]
fn dirty_read() {
    let (fixture, docs) = fixture(&[("a", "old")]);
    let mut t1 = fixture.store.begin();
    put(&mut t1, &docs, "a", "new");
    put(&mut t1, &docs, "b", "new");
    let t2 = fixture.store.begin();
    assert_eq!(read(&t2, &docs, "a").as_deref(), Some("old"));
    assert_eq!(scan(&t2, &docs, &ScanRange::all()), ["a=old"]);
    assert_eq!(text(&docs, "a").as_deref(), Some("old"));
    t1.abort();
    assert_eq!(scan(&fixture.store.begin(), &docs, &ScanRange::all()), ["a=old"]);
}

/// Fuzzy (non-repeatable) read: t1 reads a document twice and finds t2's change the second time.
#[test]
fn fuzzy_read() {
    let (fixture, docs) = fixture(&[("a", "old"), ("b", "old")]);
    let t1 = fixture.store.begin();
    assert_eq!(read(&t1, &docs, "a").as_deref(), Some("old"));
    let mut t2 = fixture.store.begin();
    put(&mut t2, &docs, "a", "new");
    t2.delete(&docs, "b", Precondition::Any).expect("delete");
    t2.commit().expect("commit");
    assert_eq!(read(&t1, &docs, "a").as_deref(), Some("old"));
    assert_eq!(read(&t1, &docs, "b").as_deref(), Some("old"));
    t1.commit().expect("reading alone never fails");
}

/// Lost update: t1 and t2 read the same version of a document, both write what they made of it, and the first of the
/// two writes disappears without ever having been seen.
#[test]
fn lost_update() {
    let (fixture, docs) = fixture(&[("counter", "1")]);
    let (mut t1, mut t2) = (fixture.store.begin(), fixture.store.begin());
    for txn in [&mut t1, &mut t2] {
        assert_eq!(read(txn, &docs, "counter").as_deref(), Some("1"));
        put(txn, &docs, "counter", "2");
    }
    t1.commit().expect("commit");
    refused(t2, "counter");
}

/// Lost update of a document that was not there: both create it.
#[test]
fn lost_creation() {
    let (fixture, docs) = fixture(&[]);
    let (mut t1, mut t2) = (fixture.store.begin(), fixture.store.begin());
    for txn in [&mut t1, &mut t2] {
        assert_eq!(read(txn, &docs, "a"), None);
        put(txn, &docs, "a", "mine");
    }
    t1.commit().expect("commit");
    refused(t2, "a");
}

/// Lost update against a writer outside any transaction.
#[test]
fn lost_single_write() {
    let (fixture, docs) = fixture(&[("counter", "1")]);
    let mut txn = fixture.store.begin();
    assert_eq!(read(&txn, &docs, "counter").as_deref(), Some("1"));
    put(&mut txn, &docs, "counter", "2");
    docs.put("counter", "10", Precondition::Any).expect("put");
    refused(txn, "counter");
    assert_eq!(text(&docs, "counter").as_deref(), Some("10"));
}

/// Read skew: t1 reads one document from before t2 and another from after it, which were never true together.
#[test]
fn read_skew() {
    let (fixture, docs) = fixture(&[("a", "50"), ("b", "50")]);
    let t1 = fixture.store.begin();
    assert_eq!(read(&t1, &docs, "a").as_deref(), Some("50"));
    let mut t2 = fixture.store.begin();
    put(&mut t2, &docs, "a", "10");
    put(&mut t2, &docs, "b", "90");
    t2.commit().expect("commit");
    assert_eq!(read(&t1, &docs, "b").as_deref(), Some("50"));
    assert_eq!(scan(&t1, &docs, &ScanRange::all()), ["a=50", "b=50"]);
}

/// Read skew that ends in a write: what t1 writes builds on a state that is over.
#[test]
fn read_skew_before_a_write() {
    let (fixture, docs) = fixture(&[("a", "50"), ("b", "50")]);
    let mut t1 = fixture.store.begin();
    assert_eq!(read(&t1, &docs, "a").as_deref(), Some("50"));
    docs.put("a", "10", Precondition::Any).expect("put");
    put(&mut t1, &docs, "sum", "100");
    refused(t1, "a");
    assert_eq!(text(&docs, "sum"), None);
}

/// Write skew: t1 and t2 each read both documents, find that one may change as long as the other stays, and change one
/// each.
#[test]
fn write_skew() {
    let (fixture, docs) = fixture(&[("ana", "on call"), ("berta", "on call")]);
    let (mut t1, mut t2) = (fixture.store.begin(), fixture.store.begin());
    for txn in [&t1, &t2] {
        assert_eq!(read(txn, &docs, "ana").as_deref(), Some("on call"));
        assert_eq!(read(txn, &docs, "berta").as_deref(), Some("on call"));
    }
    put(&mut t1, &docs, "ana", "off");
    put(&mut t2, &docs, "berta", "off");
    t1.commit().expect("commit");
    refused(t2, "ana");
}

/// Write skew over absence: each creates a document, having seen that the other one is not there.
#[test]
fn write_skew_over_absent_documents() {
    let (fixture, docs) = fixture(&[]);
    let (mut t1, mut t2) = (fixture.store.begin(), fixture.store.begin());
    assert_eq!(read(&t1, &docs, "b"), None);
    assert_eq!(read(&t2, &docs, "a"), None);
    put(&mut t1, &docs, "a", "alone");
    put(&mut t2, &docs, "b", "alone");
    t1.commit().expect("commit");
    refused(t2, "a");
}

/// Phantom: t1 reads a range twice, or reads it and writes what it made of it, while t2 changes what is in it. The
/// shape of t2's change makes no difference.
fn phantom(change: impl Fn(&mut WriteBatch<'_>, &Collection), refused_for: &str) {
    let (fixture, docs) = fixture(&[("order 1", "open"), ("order 3", "shipped"), ("x", "open")]);
    let orders = ScanRange::prefix("order");
    let mut t1 = fixture.store.begin();
    let before = scan(&t1, &docs, &orders);
    assert_eq!(before, ["order 1=open", "order 3=shipped"]);
    let mut batch = fixture.store.batch();
    change(&mut batch, &docs);
    batch.commit().expect("commit");
    assert_eq!(scan(&t1, &docs, &orders), before, "a phantom showed");
    put(&mut t1, &docs, "open orders", "1");
    refused(t1, refused_for);
}

#[test]
fn phantom_by_insert() {
    phantom(
        |batch, docs| {
            batch.put(docs, "order 2", "open", Precondition::Absent);
        },
        "order 2",
    );
}

#[test]
fn phantom_by_insert_behind_the_last() {
    phantom(
        |batch, docs| {
            batch.put(docs, "order 4", "open", Precondition::Absent);
        },
        "order 4",
    );
}

#[test]
fn phantom_by_delete() {
    phantom(
        |batch, docs| {
            batch.delete(docs, "order 1", Precondition::Any);
        },
        "order 1",
    );
}

/// The document was in the range and did not match what t1 looks for; now it does.
#[test]
fn phantom_by_update_that_moves_in() {
    phantom(
        |batch, docs| {
            batch.put(docs, "order 3", "open", Precondition::Present);
        },
        "order 3",
    );
}

/// The document was outside the range and comes in under a new id, in one batch.
#[test]
fn phantom_by_a_move_from_outside() {
    let (fixture, docs) = fixture(&[("order 1", "open"), ("x", "open")]);
    let mut t1 = fixture.store.begin();
    assert_eq!(scan(&t1, &docs, &ScanRange::prefix("order")), ["order 1=open"]);
    let mut batch = fixture.store.batch();
    batch.delete(&docs, "x", Precondition::Present).put(&docs, "order 2", "open", Precondition::Absent);
    batch.commit().expect("commit");
    put(&mut t1, &docs, "open orders", "1");
    refused(t1, "order 2");
}

/// Write skew by phantoms: each counts a range and adds to it, so that the limit that both checked is broken.
#[test]
fn phantom_write_skew() {
    let (fixture, docs) = fixture(&[("seat 1", "taken")]);
    let (mut t1, mut t2) = (fixture.store.begin(), fixture.store.begin());
    for txn in [&t1, &t2] {
        assert_eq!(scan(txn, &docs, &ScanRange::prefix("seat")).len(), 1, "there is a seat left of two");
    }
    put(&mut t1, &docs, "seat 2", "t1");
    put(&mut t2, &docs, "seat 3", "t2");
    t1.commit().expect("commit");
    refused(t2, "seat 2");
}

/// Long fork: t1 and t2 write different documents, and of two readers one sees only t1's write and the other only
/// t2's: they disagree about which came first.
#[test]
fn long_fork() {
    let (fixture, docs) = fixture(&[]);
    let (mut t1, mut t2) = (fixture.store.begin(), fixture.store.begin());
    put(&mut t1, &docs, "a", "t1");
    put(&mut t2, &docs, "b", "t2");
    let r0 = fixture.store.begin();
    t2.commit().expect("commit");
    let r1 = fixture.store.begin();
    t1.commit().expect("commit");
    let r2 = fixture.store.begin();
    let both = |txn: &Transaction| (read(txn, &docs, "a").is_some(), read(txn, &docs, "b").is_some());
    // Whoever looks sees a prefix of one order.
    assert_eq!([both(&r0), both(&r1), both(&r2)], [(false, false), (false, true), (true, true)]);
}

/// The read-only anomaly of snapshot isolation (Fekete, O'Neil and O'Neil, 2004): two transactions that would be
/// serializable by themselves are not any more once a reader has seen the state between them.
#[test]
fn read_only_anomaly() {
    let (fixture, docs) = fixture(&[("checking", "0"), ("savings", "0")]);
    // t1 withdraws 10 from checking, and charges a fee if the two together fall below 0.
    let mut t1 = fixture.store.begin();
    assert_eq!(read(&t1, &docs, "checking").as_deref(), Some("0"));
    assert_eq!(read(&t1, &docs, "savings").as_deref(), Some("0"));
    // t2 pays 20 into savings, and t3 sees that before t1's withdrawal.
    let mut t2 = fixture.store.begin();
    assert_eq!(read(&t2, &docs, "savings").as_deref(), Some("0"));
    put(&mut t2, &docs, "savings", "20");
    t2.commit().expect("commit");
    let t3 = fixture.store.begin();
    assert_eq!(scan(&t3, &docs, &ScanRange::all()), ["checking=0", "savings=20"]);
    t3.commit().expect("commit");
    // The fee would say that the withdrawal came before the payment.
    put(&mut t1, &docs, "checking", "-11");
    refused(t1, "savings");
}
