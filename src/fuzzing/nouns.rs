//! Symbols, ids, prices, quantities and sides in text.

use std::{
    fmt::{Debug, Display},
    str::FromStr,
};

use crate::{
    OpId,
    market::{ClientOrderId, Price, Quantity, Side, Symbol},
};

/// Each noun that is read from the text says the same when it is printed and read again.
pub fn nouns(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let is_name = comes_back::<Symbol>(text) | comes_back::<ClientOrderId>(text);
    let is_number = comes_back::<Price>(text) | comes_back::<Quantity>(text);
    is_name | is_number | comes_back::<Side>(text) | comes_back::<OpId>(text)
}

/// Whether the text is one. What is printed is printed the same again.
fn comes_back<T: FromStr + Display + Debug + PartialEq>(text: &str) -> bool {
    let Ok(noun) = text.parse::<T>() else { return false };
    let printed = noun.to_string();
    let read = printed.parse::<T>().ok();
    assert_eq!(read.as_ref(), Some(&noun), "printed as {printed}");
    assert_eq!(read.map(|noun| noun.to_string()), Some(printed));
    true
}
