//! The name of an instrument: checked, inline, cheap to copy and to use as a key.

use super::text::inline_text;

inline_text! {
    /// The name of an instrument, as its venue spells it.
    ///
    /// 1 to 63 bytes of UTF-8: letters, digits and signs of any script, and blanks (U+0020) inside, single or repeated.
    /// Excluded are commas, quotes, control characters, other white space, and all that cannot be seen or changes the
    /// direction of writing. A symbol so survives a file, a log line and a request unquoted, unless these separate
    /// their fields by blanks.
    ///
    /// Symbols are compared byte by byte. `BTCUSDT` and `btcusdt` are two, and so are two Unicode spellings of one name,
    /// such as `é` as one letter and as `e` with an accent: a venue's own spelling is kept, and its messages spell a name
    /// in one way.
    ///
    /// A symbol takes 64 bytes, as does an `Option` of it, and orders as its text does. Comparing and hashing looks at
    /// the bytes that a name has, not at all that fit.
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
    /// assert_eq!(Symbol::new("SPY   240119C00475000")?.as_str(), "SPY   240119C00475000");
    /// assert!(Symbol::new("币安人生_USDT").is_ok());
    /// assert_eq!(Symbol::new("").unwrap_err().to_string(), "symbol is empty");
    /// assert_eq!(Symbol::new("BTC,USDT").unwrap_err().reason(), Reason::BadLetter { at: 3, letter: ',' });
    /// # Ok::<(), roundlot::market::InvalidField>(())
    /// ```
    Symbol, 63, Name, "symbol"
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

    /// Names as venues spell them: pairs, futures, options, perpetuals, prefixes, spreads, names in other scripts, tokens
    /// by their address.
    const SEEN: [&str; 17] = [
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
        "SPY   240119C00475000",
        "UD:1V: GN 2405",
        "币安人生_USDT",
        "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2",
        "EPjFWdD5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
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
    fn sixty_three_bytes_fit() {
        let longest = "X".repeat(Symbol::MAX_LEN);
        assert_eq!(Symbol::new(&longest).expect("fits").as_str(), longest);
        let error = Symbol::new(&"X".repeat(64)).expect_err("too long");
        assert_eq!((error.field(), error.reason()), ("symbol", Reason::TooLong { max: 63, len: 64 }));
        assert!(Symbol::new(&"币".repeat(21)).is_ok());
        let error = Symbol::new(&"币".repeat(22)).expect_err("66 bytes");
        assert_eq!(error.reason(), Reason::TooLong { max: 63, len: 66 });
    }

    #[test]
    fn it_takes_64_bytes_and_so_does_an_option() {
        assert_eq!(size_of::<Symbol>(), 64);
        assert_eq!(size_of::<Option<Symbol>>(), 64);
    }

    /// Goal: what is read is told apart as the venue tells it apart. Method: two spellings of one name.
    #[test]
    fn two_unicode_spellings_are_two_symbols() {
        let (composed, decomposed) = (Symbol::from_static("CAFÉ"), Symbol::from_static("CAFE\u{301}"));
        assert_ne!(composed, decomposed);
        assert_eq!(decomposed.as_str(), "CAFE\u{301}");
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
        assert_eq!(read("BTC\tUSDT").expect_err("tab").to_string(), "symbol must not contain '\\t', found at byte 3");
        assert_eq!(read("BTCUSDT ").expect_err("blank").to_string(), "symbol begins or ends with a blank");
        let number: U64Deserializer<Error> = 7_u64.into_deserializer();
        assert!(Symbol::deserialize(number).is_err());
    }

    #[test]
    #[should_panic(expected = "not a valid symbol")]
    fn a_bad_literal_panics() {
        Symbol::from_static("BTC,USDT");
    }
}
