//! The name of an instrument: checked, inline, cheap to copy and to use as a key.

use super::text::inline_text;

inline_text! {
    /// The name of an instrument, as its venue spells it.
    ///
    /// 1 to 31 bytes of printable ASCII, without white space, control characters, commas and quotes, so that it
    /// survives a file, a log line and a request unquoted. Case is kept: `BTCUSDT` and `btcusdt` are two symbols.
    /// It takes 32 bytes, as does an `Option` of it, and orders as its text does.
    ///
    /// The hash is not that of a `str`: look a symbol up by a symbol.
    ///
    /// # Examples
    ///
    /// ```
    /// use roundlot::market::{Reason, Symbol};
    ///
    /// const BTC: Symbol = Symbol::from_static("BTCUSDT");
    ///
    /// assert_eq!(Symbol::new("BTCUSDT"), Ok(BTC));
    /// assert_eq!("ETH-30JUL21-2800-C".parse::<Symbol>()?.as_str(), "ETH-30JUL21-2800-C");
    /// assert_eq!(Symbol::new("").unwrap_err().to_string(), "symbol is empty");
    /// assert_eq!(Symbol::new("BTC,USDT").unwrap_err().reason(), Reason::BadByte { at: 3, byte: b',' });
    /// # Ok::<(), roundlot::market::InvalidField>(())
    /// ```
    Symbol, 31, "symbol"
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use serde::{
        Deserialize,
        de::{
            IntoDeserializer,
            value::{Error, StrDeserializer, U64Deserializer},
        },
    };

    use super::*;
    use crate::market::Reason;

    /// Names as venues spell them: pairs, futures, options, perpetuals, prefixes.
    const SEEN: [&str; 12] = [
        "BTCUSDT",
        "BCHUSD_PERP",
        "WAVES/EUR",
        "FX_BTC_JPY",
        "BTC-USD-220527",
        "BTC-31DEC21-300000-C",
        "ETH-30JUL21-2800-C",
        "NEAR-USDT-PERPETUAL",
        "tTESTBTC:TESTUSD",
        "sp:HOTUSDT",
        "BRK.B",
        "$EURUSD",
    ];

    #[test]
    fn names_of_real_venues_are_accepted_and_kept() {
        for name in SEEN {
            let symbol: Symbol = name.parse().expect(name);
            assert_eq!(symbol.as_str(), name);
            assert_eq!(symbol.as_ref(), name);
            assert_eq!(symbol.to_string(), name);
            assert_eq!(Symbol::try_from(name), Ok(symbol));
            assert_eq!(Symbol::try_from(name.to_owned()), Ok(symbol));
        }
    }

    #[test]
    fn thirty_one_bytes_fit() {
        let longest = "X".repeat(Symbol::MAX_LEN);
        assert_eq!(Symbol::new(&longest).expect("fits").as_str(), longest);
        let error = Symbol::new(&"X".repeat(32)).expect_err("too long");
        assert_eq!((error.field(), error.reason()), ("symbol", Reason::TooLong { max: 31, len: 32 }));
    }

    #[test]
    fn it_takes_32_bytes_and_so_does_an_option() {
        assert_eq!(size_of::<Symbol>(), 32);
        assert_eq!(size_of::<Option<Symbol>>(), 32);
    }

    #[test]
    fn it_works_as_a_key() {
        let table: HashMap<Symbol, usize> =
            SEEN.iter().enumerate().map(|(i, name)| (Symbol::from_static(name), i)).collect();
        for (i, name) in SEEN.iter().enumerate() {
            assert_eq!(table[&Symbol::from_static(name)], i);
        }
        let sorted: BTreeSet<Symbol> = table.into_keys().collect();
        let mut names = SEEN;
        names.sort_unstable();
        assert!(sorted.iter().map(Symbol::as_str).eq(names));
    }

    #[test]
    fn it_is_shown_as_text() {
        let symbol = Symbol::from_static("BTCUSDT");
        assert_eq!(format!("{symbol:?}"), "Symbol(\"BTCUSDT\")");
        assert_eq!(format!("[{symbol:<9}]"), "[BTCUSDT  ]");
    }

    #[test]
    fn serde_checks_what_it_reads() {
        let read = |text: &'static str| {
            let text: StrDeserializer<'_, Error> = text.into_deserializer();
            Symbol::deserialize(text)
        };
        assert_eq!(read("BTCUSDT"), Ok(Symbol::from_static("BTCUSDT")));
        assert_eq!(read("BTC USDT").expect_err("space").to_string(), "symbol must not contain ' ', found at byte 3");
        let number: U64Deserializer<Error> = 7_u64.into_deserializer();
        assert!(Symbol::deserialize(number).is_err());
    }

    #[test]
    #[should_panic(expected = "not a valid symbol")]
    fn a_bad_literal_panics() {
        Symbol::from_static("BTC USDT");
    }
}
