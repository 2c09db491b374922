//! Dropout as an operation with a way back, on the processor and on a GPU: the draws are those of
//! `xqg_kernel::dropout`, hashes of a text's key and a number's place in the unpadded text. So a run
//! draws the same on every device, in any chunking, and no mask is kept.

use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape, Tensor};
use xqg_kernel::dropout::{Key, Rate};

/// How the numbers of one text are counted.
#[derive(Debug, Clone, Copy)]
pub struct TextDraws {
    /// Decides the draws.
    pub key: Key,
    /// Numbers of a row, and rows of a head, before padding; for states the length of a state.
    pub length: usize,
}

/// Leaves out numbers of states (texts x tokens x width) or of probabilities (texts x heads x
/// queries x keys). What padding holds is drawn too, and means nothing.
#[derive(Debug, Clone)]
pub struct Drop {
    /// How much.
    pub rate: Rate,
    /// Each text of the batch.
    pub texts: Vec<TextDraws>,
    /// Rows after which the next head begins; for states all rows of a text.
    pub period: usize,
    /// Length of a row, padding included.
    pub width: usize,
}

impl Drop {
    /// Applies it to a tensor, with a way back.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(self)
    }

    /// Which number of the unpadded text a row of it begins with.
    fn start(&self, row: usize, length: usize) -> usize {
        (row / self.period * length + row % self.period) * length
    }
}

impl CustomOp1 for Drop {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (from, to) = layout.contiguous_offsets().ok_or_else(|| not_contiguous(layout))?;
        let mut y = storage.as_slice::<f32>()?[from..to].to_vec();
        let size = y.len() / self.texts.len().max(1);
        for (part, text) in y.chunks_mut(size.max(1)).zip(&self.texts) {
            for (row, numbers) in part.chunks_mut(self.width).enumerate() {
                self.rate.apply(text.key, self.start(row, text.length), numbers);
            }
        }
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.on_gpu(storage, layout)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(self)?))
    }
}

fn not_contiguous(layout: &Layout) -> Error {
    Error::Msg(format!("dropout: expected numbers in order, found the strides of {layout:?}"))
}

#[cfg(feature = "cuda")]
mod gpu {
    use candle_core::backend::BackendStorage as _;
    use candle_core::cuda_backend::WrapErr as _;
    use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg as _};
    use candle_core::{CudaStorage, Layout, Result, Shape};

    use super::{Drop, not_contiguous};

    /// What nvcc made of `dropout.cu` while this crate was built.
    const KERNEL: &str = include_str!(concat!(env!("OUT_DIR"), "/dropout.ptx"));

    impl Drop {
        /// Key and length of each text as the kernel reads them: low half, high half, length.
        fn table(&self) -> Vec<u32> {
            let row = |text: &super::TextDraws| {
                let key = text.key.number();
                [key as u32, (key >> 32) as u32, text.length as u32]
            };
            self.texts.iter().flat_map(row).collect()
        }

        pub(super) fn on_gpu(
            &self,
            storage: &CudaStorage,
            layout: &Layout,
        ) -> Result<(CudaStorage, Shape)> {
            let (from, to) = layout.contiguous_offsets().ok_or_else(|| not_contiguous(layout))?;
            let device = storage.device().clone();
            let x = storage.as_cuda_slice::<f32>()?.slice(from..to);
            let count = (to - from) as u64;
            let texts = device.clone_htod(&self.table())?;
            // SAFETY: the kernel writes every one of the `count` numbers before anybody reads them.
            let mut y = unsafe { device.alloc::<f32>(to - from) }?;
            let kernel = device.get_or_load_custom_func("xqg_drop", "xqg_dropout", KERNEL)?;
            let size = count / self.texts.len().max(1) as u64;
            let [period, width] = [self.period as u32, self.width as u32];
            let (threshold, scale) = (self.rate.threshold(), self.rate.scale());
            let mut launch = kernel.builder();
            launch.arg(&count).arg(&size).arg(&period).arg(&width).arg(&threshold).arg(&scale);
            launch.arg(&texts).arg(&x).arg(&mut y);
            let blocks = LaunchConfig::for_num_elems(count.min(u64::from(u32::MAX)) as u32);
            // SAFETY: the arguments are those of `xqg_drop` in `dropout.cu`, in order; `x` and `y`
            // have `count` numbers and `texts` three for each text; the kernel's loop covers all
            // numbers with any number of threads.
            unsafe { launch.launch(blocks) }.w()?;
            Ok((CudaStorage::wrap_cuda_slice(y, device), layout.shape().clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn draws_are_those_of_the_unpadded_text_and_the_way_back_draws_the_same() {
        // Two heads over two queries and keys, padded to three.
        let (rate, key) = (Rate::new(0.5).unwrap(), Key::new(3));
        let x = Var::from_tensor(
            &Tensor::ones((1, 2, 3, 3), candle_core::DType::F32, &Device::Cpu).unwrap(),
        )
        .unwrap();
        let texts = vec![TextDraws { key, length: 2 }];
        let y = Drop { rate, texts, period: 3, width: 3 }.apply(&x).unwrap();
        let mut plain = vec![1f32; 8];
        rate.apply(key, 0, &mut plain);
        let seen: Vec<f32> = y.flatten_all().unwrap().to_vec1().unwrap();
        let inside: Vec<f32> = (0..2)
            .flat_map(|h| (0..2).flat_map(move |i| (0..2).map(move |j| h * 9 + i * 3 + j)))
            .map(|at| seen[at])
            .collect();
        assert_eq!(inside, plain);
        let grads = y.sum_all().unwrap().backward().unwrap();
        let slope: Vec<f32> = grads.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(slope, seen, "of ones, the result is the slope");
    }
}
