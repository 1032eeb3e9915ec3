//! The choice of the quantity column where several columns may hold it. Exports of some markets have the turnover
//! beside the volume, under a name that is a quantity elsewhere. [`layout`](super::layout) calls it.

use csv::StringRecord;
use roundlot::market::{Price, Quantity};
use rust_decimal::Decimal;

use super::{decimals::Decimals, row::read};

/// Returns the first column that is not the price times another one, or the first column if each is such a product.
pub fn quantity_of(columns: &[usize], price: usize, decimals: Decimals, rows: &[StringRecord]) -> Option<usize> {
    let is_turnover = |column: usize| {
        columns.iter().any(|other| *other != column && is_product(column, *other, price, decimals, rows))
    };
    columns.iter().copied().find(|column| !is_turnover(*column)).or(columns.first().copied())
}

/// Whether in each row `column` is the price times `other`, which may count lots of 10, 100 or 1000.
fn is_product(column: usize, other: usize, price: usize, decimals: Decimals, rows: &[StringRecord]) -> bool {
    let number = |row: &StringRecord, column: usize| {
        let text = decimals.plain(row.get(column)?).ok()?;
        let number = read::<Quantity>(text.strip_prefix('-').unwrap_or(&text)).ok()?.to_decimal();
        (!number.is_zero()).then_some(number)
    };
    let ratio = |row: &StringRecord| {
        let price = read::<Price>(&decimals.plain(row.get(price)?).ok()?).ok()?.to_decimal();
        let product = price.checked_mul(number(row, other)?)?;
        Some((price, number(row, column)?.checked_div(product)?))
    };
    let ratios: Vec<(Decimal, Decimal)> = rows.iter().filter_map(ratio).collect();
    let is_near = |number: Decimal, to: Decimal| (number - to).abs() * Decimal::ONE_HUNDRED <= to;
    let is_lot = |lot: i64| ratios.iter().all(|(_, ratio)| is_near(*ratio, lot.into()));
    // A price of one proves nothing.
    ratios.iter().any(|(price, _)| !is_near(*price, Decimal::ONE)) && [1, 10, 100, 1000].into_iter().any(is_lot)
}
