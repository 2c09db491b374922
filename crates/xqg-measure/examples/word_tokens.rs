//! Reads JSON strings, one a line, and prints the tokens of each as a JSON array, one a line.
//! `ci/nltk_proof.py` feeds it and compares with NLTK. With `--time` it prints how long the
//! tokenising alone took to standard error, as `passages tokens seconds`.

use std::error::Error;
use std::io::{BufWriter, Write, stderr, stdin, stdout};
use std::time::Instant;

use xqg_measure::words::word_tokenize;

fn main() -> Result<(), Box<dyn Error>> {
    let texts = stdin().lines().map(|line| Ok(serde_json::from_str::<String>(&line?)?));
    let texts = texts.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    if std::env::args().any(|argument| argument == "--time") {
        return time(&texts);
    }
    let mut out = BufWriter::new(stdout().lock());
    for text in &texts {
        serde_json::to_writer(&mut out, &word_tokenize(text))?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

fn time(texts: &[String]) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let tokens: usize = texts.iter().map(|text| word_tokenize(text).len()).sum();
    let seconds = began.elapsed().as_secs_f64();
    writeln!(stderr(), "{} {tokens} {seconds}", texts.len())?;
    Ok(())
}
