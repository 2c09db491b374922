//! `xqg index collapse` and `xqg index export`, and what all verbs share that fuse an index once.

use anyhow::Result;
use xqg_data::npy::Dtype;
use xqg_index::collapse::{CollapseOptions, refuse_collapsed};
use xqg_index::export::Format;
use xqg_index::fuse::{DEFAULT_SHARE, LangWeights, Reduce, Weight};
use xqg_index::fused::{FusedRows, Fusion};
use xqg_index::index::Index;

use crate::args::{
    AutoArg, FormatArg, FusedArgs, IndexCollapseArgs, IndexExportArgs, ReduceArg, StoredArg,
};
use crate::encoding::observe;
use crate::output;
use crate::progress::Display;

/// Writes a collapsed index.
pub fn collapse(args: &IndexCollapseArgs) -> Result<()> {
    let index = Index::open(&args.index)?;
    let options = CollapseOptions {
        fusion: fusion(&index, &args.fused)?,
        dtype: match args.dtype {
            StoredArg::F32 => Dtype::F32,
            StoredArg::F16 => Dtype::F16,
            StoredArg::Int8 => Dtype::Int8,
        },
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
    let fusion = fusion(&index, &args.fused)?;
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

/// The setting that words mean for an index.
///
/// # Errors
/// When the index is collapsed and the words ask for another fusion than is in it.
pub fn fusion(index: &Index, args: &FusedArgs) -> Result<Fusion> {
    let asked = [args.alpha, args.share].into_iter().flatten().any(|w| w > 0.0);
    if asked || !args.lang_weights.is_empty() {
        let found = "another fusion asked for";
        refuse_collapsed(index.folder(), &index.manifest, found)?;
    }
    let has_questions = !index.manifest.layers.is_empty();
    let weight = match (args.alpha, args.share) {
        (Some(alpha), _) => Weight::Alpha(alpha),
        (None, Some(share)) => Weight::Share(share),
        (None, None) if has_questions => Weight::Share(DEFAULT_SHARE),
        (None, None) => Weight::Alpha(0.0),
    };
    let known = index.manifest.langs();
    for lang in args.lang_weights.iter().filter(|w| !known.contains(&w.0)) {
        output::warn(format_args!("--lang-weights: the index has no questions in {}", lang.0));
    }
    Ok(Fusion {
        weight,
        reduce: match args.reduce {
            ReduceArg::Sum => Reduce::Sum,
            ReduceArg::Mean => Reduce::Mean,
        },
        renormalize: match args.renormalize {
            AutoArg::Auto => index.manifest.plan.contract.normalize,
            AutoArg::Yes => true,
            AutoArg::No => false,
        },
        langs: LangWeights {
            weights: args.lang_weights.iter().map(|w| (w.0, w.1)).collect(),
            match_query: false,
        },
    })
}
