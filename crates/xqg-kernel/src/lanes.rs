//! A vector register of f32 numbers and the few operations that the row kernels need. The files
//! beside this one give them to the registers of each architecture. Everything is inlined into
//! functions that enable the set.

/// A register of `N` lanes.
pub(crate) trait Lanes: Copy {
    /// Number of lanes.
    const N: usize;

    /// # Safety
    /// The instruction set is there, and `from` has `N` numbers.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// The instruction set is there, and `to` has room for `N` numbers.
    unsafe fn store(self, to: *mut f32);
    /// Rounds each lane, which lies in 0..=255, and stores it as a byte.
    ///
    /// # Safety
    /// The instruction set is there, and `to` has room for `N` bytes.
    unsafe fn store_bytes(self, to: *mut u8);
    /// [`store_bytes`](Self::store_bytes) of four registers side by side; a lane just below zero is
    /// stored as zero.
    ///
    /// # Safety
    /// The instruction set is there, and `to` has room for `4 N` bytes.
    #[inline(always)]
    unsafe fn store_four(four: [Self; 4], to: *mut u8) {
        for (i, lanes) in four.into_iter().enumerate() {
            // SAFETY: passed on.
            unsafe { lanes.max(Self::splat(0.0)).store_bytes(to.add(i * Self::N)) };
        }
    }
    /// # Safety
    /// The instruction set is there.
    unsafe fn splat(value: f32) -> Self;
    /// # Safety
    /// The instruction set is there.
    unsafe fn add(self, other: Self) -> Self;
    /// # Safety
    /// The instruction set is there.
    unsafe fn sub(self, other: Self) -> Self;
    /// # Safety
    /// The instruction set is there.
    unsafe fn mul(self, other: Self) -> Self;
    /// # Safety
    /// The instruction set is there.
    unsafe fn div(self, other: Self) -> Self;
    /// `self * factor + summand`, rounded once.
    ///
    /// # Safety
    /// The instruction set is there.
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self;
    /// # Safety
    /// The instruction set is there.
    unsafe fn max(self, other: Self) -> Self;
    /// # Safety
    /// The instruction set is there.
    unsafe fn min(self, other: Self) -> Self;
    /// # Safety
    /// The instruction set is there.
    unsafe fn abs(self) -> Self;
    /// To the nearest whole number.
    ///
    /// # Safety
    /// The instruction set is there.
    unsafe fn round(self) -> Self;
    /// `self * 2^power` for whole powers from -126 to 127.
    ///
    /// # Safety
    /// The instruction set is there.
    unsafe fn times_power_of_two(self, power: Self) -> Self;
    /// Zero where `x` is below `limit`, else self.
    ///
    /// # Safety
    /// The instruction set is there.
    unsafe fn zero_below(self, x: Self, limit: Self) -> Self;

    /// The sum of all lanes, in an order of the set's own.
    ///
    /// # Safety
    /// The instruction set is there.
    #[inline(always)]
    unsafe fn total(self) -> f32 {
        // SAFETY: passed on.
        unsafe { self.to_array()[..Self::N].iter().sum() }
    }

    /// The least lane.
    ///
    /// # Safety
    /// The instruction set is there.
    #[inline(always)]
    unsafe fn least(self) -> f32 {
        // SAFETY: passed on.
        unsafe { self.to_array()[..Self::N].iter().fold(f32::MAX, |m, &x| m.min(x)) }
    }

    /// The greatest lane.
    ///
    /// # Safety
    /// The instruction set is there.
    #[inline(always)]
    unsafe fn greatest(self) -> f32 {
        // SAFETY: passed on.
        unsafe { self.to_array()[..Self::N].iter().fold(f32::MIN, |m, &x| m.max(x)) }
    }

    /// The lanes, in order.
    ///
    /// # Safety
    /// The instruction set is there.
    #[inline(always)]
    unsafe fn to_array(self) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        // SAFETY: no register has more than 16 lanes.
        unsafe { self.store(lanes.as_mut_ptr()) };
        lanes
    }
}

/// Writes the methods that are one intrinsic of the same shape.
macro_rules! one_to_one {
    ($($method:ident($($arg:ident),*) = $intrinsic:ident;)*) => {
        $(
            #[inline(always)]
            unsafe fn $method(self $(, $arg: Self)*) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $intrinsic(self $(, $arg)*) }
            }
        )*
    };
}
pub(crate) use one_to_one;
