//! The ways back of [`super::encoder`], from a gradient of what a part gave to that of what it read; the
//! parameters' gradients are added on the way.

use candle_core::{Result, Tensor};
use xqg_model::recipe::Pooling;

use super::by_hand::{LinearBack, Normed, activate_back, linear_back, over_rows, softmax_back};
use super::encoder::{AttentionKept, LayerKept, PoolKept, View};
use super::numbers::Sums;
use super::pick::picked_back;
use crate::network::embedding;
use crate::network::forward::{Site, site};
use crate::network::places::{Linear, Norm};

impl View<'_> {
    /// Back through the pooling: from the embeddings' gradient to that of the last layer's states.
    pub fn pool_back(&self, kept: &PoolKept, grad: &Tensor) -> Result<Tensor> {
        let (b, t, h) = (self.texts.len(), self.width, self.encoder.config().hidden_size);
        let grad = match kept {
            None => grad.clone(),
            Some((embeddings, length)) => {
                let along = (grad * embeddings)?.sum_keepdim(1)?;
                (grad - embeddings.broadcast_mul(&along)?)?.broadcast_div(length)?
            }
        };
        let states = match self.encoder.head().pooling {
            Pooling::Cls => grad.unsqueeze(1)?.pad_with_zeros(1, 0, t - 1)?,
            Pooling::Mean => self.shares()?.matmul(&grad.unsqueeze(1)?)?,
        };
        states.reshape((b * t, h))
    }

    /// Back through a layer.
    pub fn layer_back(
        &self,
        index: usize,
        kept: LayerKept,
        grad: &Tensor,
        sums: &mut Sums,
    ) -> Result<Tensor> {
        let layer = &self.encoder.places().layers[index];
        let LayerKept { attention, context, attention_norm, middle, inner, active, output_norm } =
            kept;
        let around = self.norm_back(&layer.output_norm, &output_norm, grad, sums)?;
        let grad = self.drop_states(site(index, Site::Output), around.clone())?;
        let grad = self.linear_back(&layer.contract, &active, &grad, sums)?;
        let grad = activate_back(&inner, self.encoder.config().hidden_act, &grad)?;
        let grad = (self.linear_back(&layer.expand, &middle, &grad, sums)? + around)?;
        let around = self.norm_back(&layer.attention_norm, &attention_norm, &grad, sums)?;
        let grad = self.drop_states(site(index, Site::Attention), around.clone())?;
        let grad = self.linear_back(&layer.attention_out, &context, &grad, sums)?;
        self.attend_back(index, attention, &grad, sums)? + around
    }

    fn attend_back(
        &self,
        index: usize,
        kept: AttentionKept,
        grad: &Tensor,
        sums: &mut Sums,
    ) -> Result<Tensor> {
        let AttentionKept { x, heads: [query, key, value], probabilities } = kept;
        let products = self.products;
        let grad = products.round(&self.heads(grad)?)?;
        let weights = products.round(&self.drop_probabilities(index, &probabilities)?)?;
        let of_value = products.of(&weights.transpose(2, 3)?, &grad)?;
        drop(weights);
        let of_weights = products.of(&grad, &value.transpose(2, 3)?)?;
        let of_scores = self.drop_probabilities(index, &of_weights)?;
        let of_scores = products.round(&softmax_back(&probabilities, &of_scores)?)?;
        let of_query = (products.of(&of_scores, &key)? * self.query_scale())?;
        let of_key = products.of(&of_scores.transpose(2, 3)?, &query)?;
        let mut of_x: Option<Tensor> = None;
        let linears = &self.encoder.places().layers[index].qkv;
        for (linear, of_heads) in linears.iter().zip([of_query, of_key, of_value]) {
            let part = self.linear_back(linear, &x, &self.merged(&of_heads)?, sums)?;
            of_x = Some(match of_x {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        of_x.map_or_else(|| x.zeros_like(), Ok)
    }

    /// Back through the embeddings.
    pub fn embed_back(&self, kept: &Normed, grad: Tensor, sums: &mut Sums) -> Result<()> {
        let (places, c) = (self.encoder.places(), self.encoder.config());
        let (b, t, h) = (self.texts.len(), self.width, c.hidden_size);
        let grad = self.drop_states(embedding::SITE, grad)?;
        let grad = self.norm_back(&places.norm, kept, &grad, sums)?;
        let rows = |place: usize| self.values[place].dim(0);
        let by_place = over_rows(&grad.reshape((b, t * h))?)?.reshape((t, h))?;
        sums.add(places.types, || {
            over_rows(&by_place)?.unsqueeze(0)?.pad_with_zeros(0, 0, rows(places.types)? - 1)
        })?;
        let after = rows(places.positions)? - c.first_position() - t;
        sums.add(places.positions, || by_place.pad_with_zeros(0, c.first_position(), after))?;
        let padding = c.padding_id() as u32;
        sums.add(places.words, || picked_back(&self.ids(), padding, &grad, rows(places.words)?))
    }

    fn norm_back(
        &self,
        at: &Norm,
        kept: &Normed,
        grad: &Tensor,
        sums: &mut Sums,
    ) -> Result<Tensor> {
        let (x, [weight, bias]) = kept.back(&self.values[at.weight], grad)?;
        sums.add(at.weight, || Ok(weight))?;
        sums.add(at.bias, || Ok(bias))?;
        Ok(x)
    }

    fn linear_back(
        &self,
        at: &Linear,
        x: &Tensor,
        grad: &Tensor,
        sums: &mut Sums,
    ) -> Result<Tensor> {
        let LinearBack { x, weight, bias } =
            linear_back(self.products, (x, &self.values[at.weight]), grad)?;
        sums.add(at.weight, || Ok(weight))?;
        sums.add(at.bias, || Ok(bias))?;
        Ok(x)
    }
}
