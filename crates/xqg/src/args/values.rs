//! Values on the command line that are more than a word or a number: how they are read, and what
//! is said when they cannot be.

use std::path::PathBuf;
use std::str::FromStr;

use xqg_data::lang::Lang;
use xqg_index::manifest::Shard;
use xqg_measure::measure::Measure;

use crate::mining::select::Margin;

/// A language on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LangArg(pub Lang);

impl FromStr for LangArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|m: xqg_data::error::Mismatch| {
            format!("expected {}, found {}", m.expected, m.found)
        })
    }
}

/// A measure on the command line.
#[derive(Debug, Clone, Copy)]
pub struct MeasureArg(pub Measure);

impl FromStr for MeasureArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|e: xqg_measure::error::MeasureError| e.to_string())
    }
}

/// `te=0.5`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LangWeightArg(pub Lang, pub f32);

impl FromStr for LangWeightArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected LANG=WEIGHT such as te=0.5, found `{text}`");
        let (lang, weight) = text.split_once('=').ok_or_else(expected)?;
        let weight: f32 = weight.trim().parse().map_err(|_| expected())?;
        if !weight.is_finite() || weight < 0.0 {
            return Err(format!("expected a weight of 0 or more, found `{text}`"));
        }
        Ok(Self(lang.parse::<LangArg>()?.0, weight))
    }
}

/// `1/4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardArg(pub Shard);

impl FromStr for ShardArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected I/N with I from 1 to N, found `{text}`");
        let (number, of) = text.split_once('/').ok_or_else(expected)?;
        let parse = |part: &str| part.trim().parse::<u32>().map_err(|_| expected());
        let shard = Shard { number: parse(number)?, of: parse(of)? };
        if shard.number == 0 || shard.number > shard.of { Err(expected()) } else { Ok(Self(shard)) }
    }
}

/// `0:0.6:0.05`.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepArg(pub Vec<f32>);

impl FromStr for SweepArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!("expected A:B:STEP such as 0:0.6:0.05 with 0 <= A <= B <= 1, found `{text}`")
        };
        let numbers: Vec<f64> = text
            .split(':')
            .map(|n| n.trim().parse().map_err(|_| expected()))
            .collect::<Result<_, _>>()?;
        let [from, to, step] = numbers[..] else { return Err(expected()) };
        let sound = (0.0..=1.0).contains(&from) && (from..=1.0).contains(&to) && step >= 0.001;
        if !sound {
            return Err(expected());
        }
        // A hair of tolerance, so that 0.6 is reached in steps of 0.05.
        let steps = ((to - from) / step + 1e-6).floor() as usize;
        let share = |i: usize| ((from + step * i as f64) * 1e6).round() / 1e6;
        Ok(Self((0..=steps).map(|i| share(i) as f32).collect()))
    }
}

/// `0.05` or `5%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MarginArg(pub Margin);

impl FromStr for MarginArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected a number from 0 such as 0.05, or 5%, found `{text}`");
        let (number, percent) = match text.strip_suffix('%') {
            Some(number) => (number, true),
            None => (text, false),
        };
        match number.trim().parse::<f32>() {
            Ok(n) if n.is_finite() && n >= 0.0 && percent => Ok(Self(Margin::Relative(n / 100.0))),
            Ok(n) if n.is_finite() && n >= 0.0 => Ok(Self(Margin::Absolute(n))),
            _ => Err(expected()),
        }
    }
}

/// `te=prompt.txt`, or a file for all languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptArg {
    /// The language; none for all.
    pub lang: Option<Lang>,
    /// The file.
    pub path: PathBuf,
}

impl FromStr for PromptArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (lang, path) = match text.split_once('=') {
            Some((lang, path)) => (Some(lang.parse::<LangArg>()?.0), path),
            None => (None, text),
        };
        if path.is_empty() {
            return Err(format!("expected a file, found `{text}`"));
        }
        Ok(Self { lang, path: PathBuf::from(path) })
    }
}

/// A number above 0.
pub fn above_zero(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if x.is_finite() && x > 0.0 => Ok(x),
        _ => Err(format!("expected a number above 0, found `{text}`")),
    }
}

/// A whole number from 1 to `MOST`: what memory is asked for.
pub fn up_to<const MOST: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=MOST).contains(&n) => Ok(n),
        _ => Err(format!("expected a whole number from 1 to {MOST}, found `{text}`")),
    }
}

/// A share of a whole, above 0; wide enough that a tenth of ten is one.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x <= 1.0 => Ok(x),
        _ => Err(format!("expected a share above 0, up to 1, found `{text}`")),
    }
}

/// A whole number from 1.
pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("expected a whole number from 1, found `{text}`")),
    }
}

/// A number from 0 to 1.
pub fn fraction(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(x) if (0.0..=1.0).contains(&x) => Ok(x),
        _ => Err(format!("expected a number from 0 to 1, found `{text}`")),
    }
}

/// A text without white space, so that it fits a column of a run.
pub fn one_word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err(format!("expected one word, found `{text}`"));
    }
    Ok(text.to_owned())
}

/// Yes or no.
pub fn yes_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(format!("expected yes or no, found `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_reach_their_end() {
        let SweepArg(shares) = "0:0.6:0.05".parse().unwrap();
        assert_eq!((shares.len(), shares[0], shares[12]), (13, 0.0, 0.6));
        for bad in ["0:1", "0.5:0.1:0.1", "0:2:0.1", "0:1:0", "a:b:c", "0:1:nan"] {
            assert!(bad.parse::<SweepArg>().is_err(), "{bad}");
        }
    }

    #[test]
    fn shards_and_weights_are_checked() {
        assert_eq!("2/4".parse::<ShardArg>().unwrap().0, Shard { number: 2, of: 4 });
        for bad in ["0/4", "5/4", "1", "a/b"] {
            assert!(bad.parse::<ShardArg>().is_err(), "{bad}");
        }
        assert_eq!("te=0.5".parse::<LangWeightArg>().unwrap().1, 0.5);
        for bad in ["xx=1", "te", "te=-1", "te=nan", "te=inf"] {
            assert!(bad.parse::<LangWeightArg>().is_err(), "{bad}");
        }
        assert_eq!("0.5".parse::<MarginArg>().unwrap().0, Margin::Absolute(0.5));
        assert_eq!("5 %".parse::<MarginArg>().unwrap().0, Margin::Relative(0.05));
        for bad in ["-1", "nan", "%", "inf%", "x"] {
            assert!(bad.parse::<MarginArg>().is_err(), "{bad}");
        }
        assert_eq!("te=a.txt".parse::<PromptArg>().unwrap().lang, "te".parse().ok());
        assert_eq!("a.txt".parse::<PromptArg>().unwrap().lang, None);
        assert!("xx=a".parse::<PromptArg>().is_err() && "te=".parse::<PromptArg>().is_err());
        assert!(
            above_zero("0").is_err() && above_zero("nan").is_err() && above_zero("0.1").is_ok()
        );
        assert_eq!(fraction("0.25"), Ok(0.25));
        assert_eq!((share("0.1"), share("1")), (Ok(0.1), Ok(1.0)));
        assert!(["0", "-1", "1.1", "nan", "x"].iter().all(|text| share(text).is_err()));
        assert_eq!((up_to::<9>("1"), up_to::<9>("9")), (Ok(1), Ok(9)));
        assert!(["0", "10", "18446744073709551616"].iter().all(|text| up_to::<9>(text).is_err()));
        assert!(fraction("1.5").is_err() && fraction("-0.1").is_err() && fraction("nan").is_err());
    }
}
