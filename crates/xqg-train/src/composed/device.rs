//! Where a network computes, and in which precision: chosen by name, opened once, refused in words
//! where there is nothing to open.

use std::str::FromStr;

use candle_core::Device;

use crate::error::TrainError;

/// Where networks compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// On the processor, by the kernels written for it.
    #[default]
    Cpu,
    /// On the processor, by the operations that a GPU would take: slow, and there to test these.
    ComposedCpu,
    /// On the NVIDIA GPU of that number.
    Cuda(usize),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let number = name.strip_prefix("cuda:").map(str::parse);
        match (name, number) {
            ("cpu", _) => Ok(Self::Cpu),
            ("cpu-composed", _) => Ok(Self::ComposedCpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(Ok(number))) => Ok(Self::Cuda(number)),
            _ => Err(format!("expected cpu, cuda or cuda:NUMBER, found {name}")),
        }
    }
}

/// What products are computed in. Parameters, moments, norms, softmaxes and sums are f32 in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    F32,
    /// Factors and results of 16 bits with an exponent of 8, summed in 32.
    Bf16,
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("expected f32 or bf16, found {name}")),
        }
    }
}

/// A choice of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compute {
    /// Where.
    pub place: Place,
    /// In what; by default bf16 on a GPU and f32 elsewhere.
    pub precision: Option<Precision>,
}

/// A device that was opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The device.
    pub device: Device,
    /// What products are computed in on it.
    pub precision: Precision,
}

impl Compute {
    /// Opens the device for what has no kernels of the processor.
    ///
    /// # Errors
    /// As [`Compute::open`].
    pub fn open_composed(self) -> Result<Opened, TrainError> {
        let on_cpu = || Opened { device: Device::Cpu, precision: Precision::F32 };
        Ok(self.open()?.unwrap_or_else(on_cpu))
    }

    /// Opens the device; `None` for the processor's own kernels.
    ///
    /// # Errors
    /// [`TrainError::NoDevice`] where it cannot be opened, [`TrainError::Setting`] for a precision
    /// that the kernels do not have.
    pub fn open(self) -> Result<Option<Opened>, TrainError> {
        match (self.place, self.precision) {
            (Place::Cpu, Some(Precision::Bf16)) => Err(TrainError::Setting {
                name: "--precision",
                expected: "f32 on the processor",
                found: "bf16".into(),
            }),
            (Place::Cpu, _) => Ok(None),
            (Place::ComposedCpu, precision) => {
                let precision = precision.unwrap_or(Precision::F32);
                Ok(Some(Opened { device: Device::Cpu, precision }))
            }
            (Place::Cuda(number), precision) => {
                let precision = precision.unwrap_or(Precision::Bf16);
                Ok(Some(Opened { device: cuda(number)?, precision }))
            }
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(number: usize) -> Result<Device, TrainError> {
    Err(TrainError::NoDevice {
        number,
        expected: "a build with the feature cuda",
        found: "one without it".into(),
        hint: "bench/gpu/README.md says how to build it; without --device cuda the processor is used",
    })
}

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<Device, TrainError> {
    let refuse = |found| TrainError::NoDevice {
        number,
        expected: "an NVIDIA GPU with its driver and CUDA's libraries",
        found,
        hint: "bench/gpu/README.md lists what the machine needs; without --device cuda the processor is used",
    };
    // The bindings panic where a library is missing, so each is opened here first.
    if let Some(name) = libraries::missing() {
        return Err(refuse(format!("no {name} where libraries are looked for")));
    }
    let first_line =
        |error: candle_core::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
    let device = Device::new_cuda(number).map_err(|error| refuse(first_line(error)))?;
    keep_memory(&device);
    Ok(device)
}

/// Has the driver keep memory that tensors gave back: it would return it to the system whenever it is
/// waited for, and every step would map all of its memory anew. A driver that cannot do that allocates as
/// it can.
#[cfg(feature = "cuda")]
fn keep_memory(device: &Device) {
    use candle_core::cuda_backend::cudarc::driver::{result, sys};
    let Device::Cuda(cuda) = device else { return };
    let number = cuda.cuda_stream().context().cu_device();
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    let mut most = u64::MAX;
    // SAFETY: `number` is that of a device with an open context, and the attribute is a u64, which the
    // driver copies.
    let kept = unsafe {
        result::device::get_default_mem_pool(number).and_then(|pool| {
            result::mem_pool::set_attribute(pool, attribute, (&raw mut most).cast())
        })
    };
    kept.unwrap_or_default();
}

impl Opened {
    /// Memory that the device could give, in MB; `None` where it does not say.
    #[cfg(feature = "cuda")]
    pub fn free_mb(&self) -> Option<u64> {
        use candle_core::cuda_backend::cudarc::driver::result::mem_get_info;
        let (free, _) = self.device.is_cuda().then(|| mem_get_info().ok()).flatten()?;
        Some((free >> 20) as u64)
    }

    /// Memory that the device could give, in MB; `None` where it does not say.
    #[cfg(not(feature = "cuda"))]
    pub fn free_mb(&self) -> Option<u64> {
        None
    }
}

/// Whether the libraries are there that the bindings take for granted.
#[cfg(feature = "cuda")]
mod libraries {
    use std::ffi::{CStr, c_char, c_int, c_void};

    /// Each library by the names of the versions that this program can be built with.
    const NEEDED: [&[&CStr]; 3] =
        [&[c"libcuda.so.1"], &[c"libcublas.so.13", c"libcublas.so.12"], &[c"libcurand.so.10"]];

    /// Resolves symbols when they are first called.
    const RTLD_LAZY: c_int = 1;

    unsafe extern "C" {
        fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    }

    /// The first library that cannot be opened.
    pub fn missing() -> Option<String> {
        let opens = |name: &&CStr| {
            // SAFETY: the name ends with a zero byte, and NVIDIA's libraries may be opened at any
            // time; they stay open, as the bindings use them next.
            !unsafe { dlopen(name.as_ptr(), RTLD_LAZY) }.is_null()
        };
        let missing = NEEDED.into_iter().find(|names| !names.iter().any(|name| opens(name)));
        missing.map(|names| names[0].to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_others_refused() {
        assert_eq!("cpu".parse(), Ok(Place::Cpu));
        assert_eq!("cuda".parse(), Ok(Place::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(Place::Cuda(3)));
        for bad in ["gpu", "cuda:", "cuda:-1", "cpu:0"] {
            assert!(bad.parse::<Place>().unwrap_err().contains(bad));
        }
        let bf16 = Compute { precision: Some(Precision::Bf16), ..Compute::default() };
        assert!(bf16.open().unwrap_err().to_string().contains("--precision"));
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_build_without_cuda_says_so() {
        let cuda = Compute { place: Place::Cuda(0), precision: None };
        let error = cuda.open().unwrap_err().to_string();
        assert!(error.contains("cuda:0") && error.contains("\nhint:"), "{error}");
    }
}
