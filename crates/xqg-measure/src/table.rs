//! Plain text tables: a column of names on the left, columns of numbers on the right, split into
//! bands where they do not fit the width. Our own forty lines instead of a crate, because nothing
//! but alignment is needed, and a column's split must not part a number from its name.

/// The greatest width of a table in columns of the terminal.
pub const MAX_WIDTH: usize = 100;

/// The greatest width of the names; longer ones are cut.
const MAX_NAME: usize = 28;

/// Rows of cells; the first cell of each row is its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Adds a row: its name and its cells. Rows may be of different lengths.
    pub fn row(&mut self, name: &str, cells: impl IntoIterator<Item = String>) {
        self.rows.push([shorten(name)].into_iter().chain(cells).collect());
    }

    /// The table as lines of at most [`MAX_WIDTH`], each with its line end.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| self.cells(column).map(|c| c.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let bands: Vec<String> =
            bands(&widths).into_iter().map(|band| self.band(&widths, band)).collect();
        bands.join("\n")
    }

    fn cells(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(move |row| row.get(column)).map(String::as_str)
    }

    /// The names and a range of the other columns.
    fn band(&self, widths: &[usize], columns: std::ops::Range<usize>) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let mut line = pad(row.first(), widths.first(), true);
            for column in columns.clone() {
                line.push(' ');
                line.push_str(&pad(row.get(column), widths.get(column), false));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Ranges of columns that fit beside the names; each holds at least one.
fn bands(widths: &[usize]) -> Vec<std::ops::Range<usize>> {
    let names = widths.first().copied().unwrap_or(0);
    let mut bands = Vec::new();
    let (mut start, mut used) = (1, names);
    for (column, width) in widths.iter().enumerate().skip(1) {
        if column > start && used + 1 + width > MAX_WIDTH {
            bands.push(start..column);
            (start, used) = (column, names);
        }
        used += 1 + width;
    }
    bands.push(start..widths.len().max(start));
    bands
}

/// A cell filled with spaces to the width of its column, on its right or on its left.
fn pad(cell: Option<&String>, width: Option<&usize>, left: bool) -> String {
    let cell = cell.map_or("", String::as_str);
    let width = width.copied().unwrap_or(0);
    if left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
}

fn shorten(name: &str) -> String {
    if name.chars().count() <= MAX_NAME {
        return name.to_owned();
    }
    name.chars().take(MAX_NAME - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_left_and_numbers_right() {
        let mut table = Table::default();
        table.row("", ["ar".to_owned(), "te".to_owned()]);
        table.row("xdr", ["1.5".to_owned()]);
        assert_eq!(table.render(), "     ar te\nxdr 1.5\n");
    }

    #[test]
    fn what_is_too_wide_continues_below_with_its_names() {
        let mut table = Table::default();
        table.row(&"n".repeat(40), (0..30).map(|i| format!("{i:06}")));
        let text = table.render();
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.chars().count() <= MAX_WIDTH));
        assert!(lines.iter().all(|line| line.starts_with(&format!("{}…", "n".repeat(27)))));
        assert!(lines[2].ends_with("000029"));
    }
}
