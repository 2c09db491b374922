//! The instruction sets that kernels are written for, and the choice between them at run time.

/// Numbers in the widest register: rows that are a multiple of it take the kernels.
pub(crate) const WIDEST: usize = 16;

/// An instruction set that kernels are written for and that this machine has: a value of this type
/// is the proof, for only [`Isa::available`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(pub(crate) Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "no architecture has all of them")]
pub(crate) enum Set {
    /// Plain loops and a GEMM crate.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 with the 8-bit dot product of VNNI.
    Avx512Vnni,
    /// NEON, which every 64-bit ARM processor has.
    Neon,
    /// NEON with its 8-bit dot product.
    NeonDot,
}

impl Isa {
    /// None of the sets below: what every machine has.
    pub const PORTABLE: Self = Self(Set::Portable);

    /// The best set of this machine.
    pub fn detect() -> Self {
        *Self::available().last().expect("the portable path is always there")
    }

    /// All sets of this machine, the best one last.
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Self(Set::Avx2));
                let wide = is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vnni");
                if wide {
                    sets.push(Self(Set::Avx512Vnni));
                }
            }
        }
        // The kernels read four bytes as one number whose first byte is the lowest.
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        {
            sets.push(Self(Set::Neon));
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                sets.push(Self(Set::NeonDot));
            }
        }
        sets
    }

    /// The set of that name, where this machine has it: `portable`, `avx2`, `avx512`, `neon` or
    /// `neon-dot`.
    pub fn named(name: &str) -> Option<Self> {
        Self::available().into_iter().find(|isa| isa.name() == name)
    }

    /// The set's name.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            Set::Avx2 => "avx2",
            Set::Avx512Vnni => "avx512",
            Set::Neon => "neon",
            Set::NeonDot => "neon-dot",
        }
    }

    /// The greatest 8-bit weight: AVX2's kernel keeps to 7 bits so that its sums cannot saturate.
    pub fn greatest_weight(self) -> f32 {
        if self.0 == Set::Avx2 { 63.0 } else { 127.0 }
    }

    /// Whether it has an 8-bit dot product that takes all 8 bits of both sides without saturating.
    /// NEON alone does not saturate either, but widens, which is no faster than f32.
    pub fn has_wide_dot(self) -> bool {
        matches!(self.0, Set::Avx512Vnni | Set::NeonDot)
    }

    /// Columns of a panel of packed weights; 1 where nothing is packed.
    pub fn panel(self) -> usize {
        match self.0 {
            Set::Avx512Vnni => 32,
            Set::Avx2 | Set::Neon | Set::NeonDot => 16,
            Set::Portable => 1,
        }
    }
}
