//! A bank: transfers between accounts as transactions, from many threads at once, while an auditor keeps adding up.
//!
//! Run with `cargo run --release --example bank`.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use etagdb::{Collection, Precondition, ScanRange, Store, Transaction};

const ACCOUNTS: u64 = 20;
const OPENING_BALANCE: i64 = 100;
const CLERKS: u64 = 4;
const TRANSFERS_PER_CLERK: u64 = 250;

/// Why a transfer did not happen.
#[derive(Debug)]
enum Refusal {
    NoSuchAccount(String),
    Overdrawn { account: String, balance: i64 },
    Store(etagdb::Error),
}

impl From<etagdb::Error> for Refusal {
    fn from(error: etagdb::Error) -> Refusal {
        Refusal::Store(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoSuchAccount(account) => write!(f, "there is no {account}"),
            Refusal::Overdrawn { account, balance } => write!(f, "{account} has only {balance}"),
            Refusal::Store(error) => error.fmt(f),
        }
    }
}

impl Error for Refusal {}

struct Bank {
    store: Store,
    accounts: Collection,
    journal: Collection,
    /// How often the work of a transaction ran.
    attempts: AtomicU64,
}

impl Bank {
    fn balance(&self, txn: &Transaction, account: &str) -> Result<i64, Refusal> {
        let document = txn.get(&self.accounts, account)?.ok_or_else(|| Refusal::NoSuchAccount(account.to_owned()))?;
        Ok(amount(&document.body))
    }

    /// Moves money and writes a line into the journal: all of it, or nothing. What was read is still true when it is
    /// written, or it is read again.
    fn transfer(&self, from: &str, to: &str, moved: i64) -> Result<(), Refusal> {
        self.store.transact(|txn| {
            self.attempts.fetch_add(1, Ordering::Relaxed);
            let balance = self.balance(txn, from)?;
            if balance < moved {
                return Err(Refusal::Overdrawn { account: from.to_owned(), balance });
            }
            txn.put(&self.accounts, from, (balance - moved).to_string(), Precondition::Any)?;
            // Read after the write, so that a transfer to the same account comes out right.
            let balance = self.balance(txn, to)?;
            txn.put(&self.accounts, to, (balance + moved).to_string(), Precondition::Any)?;
            // A new line: the one after the last of this account.
            let lines = txn.scan(&self.journal, &ScanRange::prefix(format!("{from}/")))?.count();
            let line = format!("{from}/{lines:06}");
            txn.put(&self.journal, line, format!("{moved} to {to}"), Precondition::Absent)?;
            Ok(())
        })
    }

    /// Adds up all accounts, as of one moment.
    fn total(&self) -> etagdb::Result<i64> {
        let snapshot = self.store.snapshot();
        snapshot.scan(&self.accounts, &ScanRange::all())?.map(|entry| Ok(amount(&entry?.1.body))).sum()
    }
}

/// The amount in a body that this program wrote.
fn amount(body: &[u8]) -> i64 {
    std::str::from_utf8(body).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn account(number: u64) -> String {
    format!("account {number:02}")
}

/// What one clerk has done: transfers made, and transfers refused for want of money.
fn work(bank: &Bank, clerk: u64) -> Result<(u64, u64), Refusal> {
    let (mut made, mut refused) = (0, 0);
    for n in 0..TRANSFERS_PER_CLERK {
        // Clerks walk through the accounts with strides of their own and meet now and then.
        let from = account((clerk + n * (2 * clerk + 3)) % ACCOUNTS);
        let to = account((clerk * 5 + n * 7) % ACCOUNTS);
        match bank.transfer(&from, &to, 10 + (n * 13 % 50) as i64) {
            Ok(()) => made += 1,
            Err(Refusal::Overdrawn { .. }) => refused += 1,
            Err(other) => return Err(other),
        }
    }
    Ok((made, refused))
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path().join("bank"))?;
    let (accounts, journal) = (store.collection("accounts")?, store.collection("journal")?);
    let mut opening = store.batch();
    for number in 0..ACCOUNTS {
        opening.put(&accounts, account(number), OPENING_BALANCE.to_string(), Precondition::Absent);
    }
    opening.commit()?;
    let bank = Bank { store, accounts, journal, attempts: AtomicU64::new(0) };
    let expected = bank.total()?;
    println!("{ACCOUNTS} accounts hold {expected}");

    let mut audits = 0;
    let (made, refused) = std::thread::scope(|scope| -> Result<(u64, u64), Box<dyn Error>> {
        let bank = &bank;
        let clerks: Vec<_> = (0..CLERKS).map(|clerk| scope.spawn(move || work(bank, clerk))).collect();
        while !clerks.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let total = bank.total()?;
            if total != expected {
                return Err(format!("an audit found {total} instead of {expected}").into());
            }
            audits += 1;
        }
        let mut sum = (0, 0);
        for clerk in clerks {
            let (made, refused) = clerk.join().map_err(|_| "a clerk panicked")??;
            sum = (sum.0 + made, sum.1 + refused);
        }
        Ok(sum)
    })?;

    let attempts = bank.attempts.load(Ordering::Relaxed);
    println!("{CLERKS} clerks made {made} transfers; {refused} were refused for want of money");
    println!(
        "{} of {attempts} attempts were run again because another clerk had been faster",
        attempts - made - refused
    );
    println!("{} audits meanwhile, and one now, found {}", audits, bank.total()?);
    let lines = bank.journal.scan(&ScanRange::all())?.count() as u64;
    println!("the journal has {lines} lines, as many as there were transfers: {}", lines == made);

    match bank.transfer("account 00", "account 99", 1) {
        Err(refusal) => println!("a transfer to nowhere: {refusal}; the total is still {}", bank.total()?),
        Ok(()) => return Err("money went to an account that is not there".into()),
    }
    Ok(())
}
