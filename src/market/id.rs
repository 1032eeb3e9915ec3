//! Names of orders and trades: checked, inline, up to 36 bytes (a UUID).

use super::text::{Text, inline_text};

inline_text! {
    /// The name that the caller gives an order, unique at its venue while the order lives.
    ///
    /// 1 to 36 bytes, the length of a UUID and the most that the venues we know take, of printable ASCII without white
    /// space, commas and quotes. A number becomes its digits.
    ///
    /// # Examples
    ///
    /// ```
    /// use roundlot::market::ClientOrderId;
    ///
    /// assert_eq!(ClientOrderId::from(42), ClientOrderId::new("42")?);
    /// assert!(ClientOrderId::new("3f0c4b1e-5c0e-4c4e-9d53-2f6a1a7d9b10").is_ok());
    /// # Ok::<(), roundlot::market::InvalidField>(())
    /// ```
    ClientOrderId, 36, Token, "order id"
}

inline_text! {
    /// The name that a venue or a file gives a trade: 1 to 36 bytes of printable ASCII without white space, commas and
    /// quotes.
    ///
    /// A number becomes its digits.
    ///
    /// # Examples
    ///
    /// ```
    /// use roundlot::market::TradeId;
    ///
    /// assert_eq!(TradeId::from(3_748_319_201).as_str(), "3748319201");
    /// ```
    TradeId, 36, Token, "trade id"
}

impl From<u64> for ClientOrderId {
    fn from(number: u64) -> Self {
        Self(Text::from_number(number))
    }
}

impl From<u64> for TradeId {
    fn from(number: u64) -> Self {
        Self(Text::from_number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Reason;

    #[test]
    fn ids_of_real_venues_are_accepted() {
        for id in ["LJ9R4QZDihCaS8UAOOLpgW", "x-xcKtGhcu2b5cffec484a42138cdf8e", "6b9ad766b55dBCDE1bfb3daac4a18656"] {
            assert_eq!(ClientOrderId::new(id).expect(id).as_str(), id);
        }
    }

    #[test]
    fn errors_name_the_kind_of_id() {
        let long = "1".repeat(37);
        let error = ClientOrderId::new(&long).expect_err("37 bytes");
        assert_eq!((error.field(), error.reason()), ("order id", Reason::TooLong { max: 36, len: 37 }));
        assert_eq!(TradeId::new("").expect_err("empty").to_string(), "trade id is empty");
        assert_eq!(
            TradeId::new("7 8").expect_err("blank").to_string(),
            "trade id must not contain ' ', found at byte 1"
        );
    }

    #[test]
    fn numbers_and_their_text_are_the_same_id() {
        assert_eq!(ClientOrderId::from(u64::MAX), ClientOrderId::from_static("18446744073709551615"));
        assert_eq!(TradeId::from(0), TradeId::from_static("0"));
    }
}
