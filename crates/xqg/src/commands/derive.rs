//! `xqg index collapse` and `xqg index export`.

use anyhow::Result;
use xqg_index::collapse::CollapseOptions;
use xqg_index::export::Format;
use xqg_index::fused::FusedRows;
use xqg_index::index::Index;

use crate::args::{FormatArg, IndexCollapseArgs, IndexExportArgs};
use crate::encoding::{self, observe};
use crate::fusing;
use crate::output;
use crate::progress::Display;

/// Writes a collapsed index.
pub fn collapse(args: &IndexCollapseArgs) -> Result<()> {
    let index = Index::open(&args.index)?;
    let options = CollapseOptions {
        fusion: fusing::setting(&index, &args.fused)?,
        dtype: encoding::index_dtype(args.dtype),
        texts: !args.no_texts,
        force: args.force,
    };
    let (mut display, out) = (Display::new(), args.out.display());
    let manifest = {
        let observer = &mut observe(&mut display);
        xqg_index::collapse::collapse(&index, &args.out, &options, observer)?
    };
    drop(display);
    let fusion = manifest.collapsed.map_or(String::new(), |c| c.fusion.describe());
    output::note(format_args!("{out}: {} passages, {fusion}", manifest.passages));
    Ok(())
}

/// Writes the fused vectors for others.
pub fn export(args: &IndexExportArgs) -> Result<()> {
    let index = Index::open(&args.index)?;
    let fusion = fusing::setting(&index, &args.fused)?;
    let fused = FusedRows::new(&index, &fusion)?;
    let format = match args.format {
        FormatArg::Npy => Format::Npy,
        FormatArg::Faiss => Format::Faiss,
    };
    let mut display = Display::new();
    let out = (args.out.as_path(), args.force);
    let ids = xqg_index::export::export(&fused, format, out, &mut observe(&mut display))?;
    drop(display);
    let (rows, dim, path) = (index.len(), index.dim(), args.out.display());
    output::note(format_args!(
        "{path}: {rows} x {dim}, {}; docids: {}",
        fusion.describe(),
        ids.display()
    ));
    Ok(())
}
