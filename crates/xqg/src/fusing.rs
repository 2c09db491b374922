//! What the words of fusion mean for an index, alike for a search and for every verb that fuses an
//! index once: the default share, the model's own renormalising, and what a collapsed index refuses.

use anyhow::Result;
use xqg_index::collapse::refuse_collapsed;
use xqg_index::fuse::{LangWeights, Reduce, Weight};
use xqg_index::fused::Fusion;
use xqg_index::index::Index;

use crate::args::{AutoArg, FusedArgs, ReduceArg};
use crate::output;

/// The setting that words mean for an index.
///
/// # Errors
/// When the index is collapsed and the words ask for another fusion than is in it.
pub fn setting(index: &Index, args: &FusedArgs) -> Result<Fusion> {
    if [args.alpha, args.share].into_iter().flatten().any(|w| w > 0.0) {
        refuse_collapsed(index.folder(), &index.manifest, "a share or alpha above 0")?;
    }
    if !args.lang_weights.is_empty() {
        refuse_collapsed(index.folder(), &index.manifest, "weights of languages")?;
    }
    warn_about_weights(index, args);
    Ok(Fusion {
        weight: weight(index, args),
        reduce: match args.reduce {
            Some(ReduceArg::Sum) => Reduce::Sum,
            Some(ReduceArg::Mean) => Reduce::Mean,
            None => index.manifest.defaults().reduce,
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

/// Whether the words leave the weight of an index's questions to the default.
pub fn is_default(index: &Index, args: &FusedArgs) -> bool {
    args.alpha.is_none() && args.share.is_none() && !index.manifest.layers.is_empty()
}

fn weight(index: &Index, args: &FusedArgs) -> Weight {
    match (args.alpha, args.share) {
        (Some(alpha), _) => Weight::Alpha(alpha),
        (None, Some(share)) => Weight::Share(share),
        (None, None) if is_default(index, args) => Weight::Share(index.manifest.defaults().share),
        (None, None) => Weight::Alpha(0.0),
    }
}

fn warn_about_weights(index: &Index, args: &FusedArgs) {
    let known = index.manifest.langs();
    for weight in args.lang_weights.iter().filter(|w| !known.contains(&w.0)) {
        output::warn(format_args!("--lang-weights: the index has no questions in {}", weight.0));
    }
}
