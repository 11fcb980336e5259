//! An inventory that is never oversold, and never sold at a price that the buyer was not shown.
//!
//! A reservation is one batch of three operations, all or nothing. The first is a guard: it writes nothing, but the
//! batch happens only if the product is still the version that the buyer looked at. Who loses is told by which
//! operation: to look again, to try again, or that the order is in already. No lock is held while a buyer thinks.
//!
//! `cargo run --release --example inventory`

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};

use etagdb::{Error as StoreError, Etag, Precondition, ScanRange, Store, TypedCollection};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Product {
    name: String,
    cents: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stock {
    left: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Reservation {
    product: String,
    quantity: u32,
    cents: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Reserved,
    SoldOut,
    /// The product is not what the buyer was shown.
    Changed,
    /// This order was placed before: its answer got lost on the way.
    AlreadyReserved,
}

/// What a buyer orders: a product as it was shown, by its etag.
struct Order<'a> {
    id: String,
    product: &'a str,
    shown: (Etag, Product),
    quantity: u32,
}

struct Shop {
    store: Store,
    products: TypedCollection<Product>,
    stock: TypedCollection<Stock>,
    reservations: TypedCollection<Reservation>,
    /// How often a buyer had to try again because another one was faster.
    retries: AtomicU32,
}

impl Shop {
    fn open(store: Store) -> etagdb::Result<Shop> {
        Ok(Shop {
            products: store.collection("products")?.typed(),
            stock: store.collection("stock")?.typed(),
            reservations: store.collection("reservations")?.typed(),
            retries: AtomicU32::new(0),
            store,
        })
    }

    fn look_at(&self, product: &str) -> etagdb::Result<Option<(Etag, Product)>> {
        Ok(self.products.get(product)?.map(|document| (document.etag, document.value)))
    }

    fn reserve(&self, order: &Order<'_>) -> etagdb::Result<Outcome> {
        let (shown, product) = &order.shown;
        let reservation = Reservation {
            product: order.product.to_owned(),
            quantity: order.quantity,
            cents: product.cents * u64::from(order.quantity),
        };
        loop {
            let Some(stock) = self.stock.get(order.product)? else {
                return Ok(Outcome::SoldOut);
            };
            let Some(left) = stock.value.left.checked_sub(order.quantity) else {
                // Sold out, unless it was this order that took the last ones.
                let placed = self.reservations.get(&order.id)?.is_some();
                return Ok(if placed { Outcome::AlreadyReserved } else { Outcome::SoldOut });
            };
            let mut batch = self.store.batch();
            batch
                .check(self.products.collection(), order.product, *shown)
                .put(
                    self.reservations.collection(),
                    &order.id,
                    self.reservations.encode(&order.id, &reservation)?,
                    Precondition::Absent,
                )
                .put(
                    self.stock.collection(),
                    order.product,
                    self.stock.encode(order.product, &Stock { left })?,
                    stock.etag,
                );
            match batch.commit() {
                Ok(_) => return Ok(Outcome::Reserved),
                Err(StoreError::Conflict(conflict)) => match conflict.position {
                    0 => return Ok(Outcome::Changed),
                    1 => return Ok(Outcome::AlreadyReserved),
                    // Somebody else took some of the stock meanwhile: see what is left.
                    _ => self.retries.fetch_add(1, Ordering::Relaxed),
                },
                Err(error) => return Err(error),
            };
        }
    }

    /// All orders at once, each from a thread of its own.
    fn reserve_at_once(&self, orders: &[Order<'_>]) -> etagdb::Result<Vec<Outcome>> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = orders.iter().map(|order| scope.spawn(|| self.reserve(order))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a buyer panicked")).collect()
        })
    }
}

fn count(outcomes: &[Outcome], of: Outcome) -> usize {
    outcomes.iter().filter(|&&outcome| outcome == of).count()
}

fn euros(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let shop = Shop::open(Store::open(dir.path().join("shop"))?)?;
    shop.products.put("lamp", &Product { name: "Lamp".into(), cents: 1990 }, Precondition::Absent)?;
    shop.stock.put("lamp", &Stock { left: 30 }, Precondition::Absent)?;

    let shown = shop.look_at("lamp")?.ok_or("no lamp")?;
    let order = |buyer: u32, shown: &(Etag, Product)| Order {
        id: format!("order of buyer {buyer}"),
        product: "lamp",
        shown: shown.clone(),
        quantity: 1,
    };
    let orders = |buyers: std::ops::Range<u32>, shown| buyers.map(|buyer| order(buyer, shown)).collect::<Vec<_>>();
    println!("40 buyers see a {} at {}; there are 30.", shown.1.name.to_lowercase(), euros(shown.1.cents));

    let outcomes = shop.reserve_at_once(&orders(0..20, &shown))?;
    let reserved = count(&outcomes, Outcome::Reserved);
    println!("20 of them order at once: {reserved} reserved.");
    assert_eq!(reserved, 20);

    shop.products.put("lamp", &Product { cents: 2490, ..shown.1.clone() }, shown.0)?;
    let outcomes = shop.reserve_at_once(&orders(20..40, &shown))?;
    let changed = count(&outcomes, Outcome::Changed);
    println!("The price rises. The other 20 order at the old one: {changed} told to look again.");
    assert_eq!((changed, shop.stock.get("lamp")?.ok_or("no stock")?.value.left), (20, 10));

    let new = shop.look_at("lamp")?.ok_or("no lamp")?;
    let outcomes = shop.reserve_at_once(&orders(20..40, &new))?;
    let (reserved, sold_out) = (count(&outcomes, Outcome::Reserved), count(&outcomes, Outcome::SoldOut));
    println!("They do, and order at {}: {reserved} reserved, {sold_out} too late.", euros(new.1.cents));
    assert_eq!((reserved, sold_out), (10, 10));

    // The answer to buyer 3 was lost, so it asks again.
    let again = shop.reserve(&order(3, &new))?;
    println!("Buyer 3 sends its order a second time: {again:?}.");
    assert_eq!(again, Outcome::AlreadyReserved);

    let mut total = 0;
    let mut lamps = 0;
    for entry in shop.reservations.scan(&ScanRange::prefix("order"))? {
        let reservation = entry?.1.value;
        total += reservation.cents;
        lamps += reservation.quantity;
    }
    let left = shop.stock.get("lamp")?.ok_or("no stock")?.value.left;
    println!("{lamps} lamps reserved for {}, {left} left.", euros(total));
    println!("{} times somebody else was faster and a buyer tried again.", shop.retries.load(Ordering::Relaxed));
    assert_eq!((lamps, left, total), (30, 0, 20 * 1990 + 10 * 2490));
    Ok(())
}
