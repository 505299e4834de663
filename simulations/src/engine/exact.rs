//! Exact arithmetic: logarithm, exponential and gamma from the four operations alone.
//! Owns: nothing. Never: calls the platform's library, whose last bit differs from machine to machine; the four
//! operations are rounded the same everywhere (IEEE 754 §5.4.1).

use std::f64::consts::{LN_2, PI};

/// The natural logarithm of a positive number.
pub(super) fn ln(x: f64) -> f64 {
    // x = m * 2^e with m in [0.75, 1.5), then the series of artanh.
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1_023;
    let mut mantissa = f64::from_bits((bits & !(0x7ff << 52)) | (1_023 << 52));
    if mantissa >= 1.5 {
        (mantissa, exponent) = (mantissa / 2.0, exponent + 1);
    }
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let (mut term, mut sum, mut n) = (z, 0.0, 1.0);
    while n < 40.0 {
        sum += term / n;
        term *= square;
        n += 2.0;
    }
    2.0 * sum + exponent as f64 * LN_2
}

/// e to this power; between e^-700 and e^700.
pub(super) fn exp(x: f64) -> f64 {
    let x = x.clamp(-700.0, 700.0);
    // x = k * ln 2 + r with r at most half of ln 2, then the series.
    let k = (x / LN_2 + if x < 0.0 { -0.5 } else { 0.5 }) as i64;
    let r = x - k as f64 * LN_2;
    let (mut term, mut sum, mut n) = (1.0, 1.0, 1.0);
    while n < 20.0 {
        term *= r / n;
        sum += term;
        n += 1.0;
    }
    sum * f64::from_bits(((k + 1_023) as u64) << 52)
}

/// The logarithm of gamma for x of one or more (Lanczos, "A precision approximation of the gamma function", 1964; g = 7).
pub(super) fn ln_gamma(x: f64) -> f64 {
    const FIRST: f64 = 0.999_999_999_999_809_9;
    const REST: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let t = x + 7.5;
    let sum = REST.iter().zip(1..).fold(FIRST, |sum, (c, n)| sum + c / (x + f64::from(n)));
    0.5 * ln(2.0 * PI) + (x + 0.5) * ln(t) - t + ln(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_agree_with_the_platform_to_its_last_digits() {
        for x in [1e-9, 0.1, 0.5, 0.75, 1.0, 1.4999, 1.5, 2.0, 20.0, 1e6] {
            assert!((ln(x) - x.ln()).abs() < 1e-13 * x.ln().abs().max(1.0), "ln {x}");
        }
        for x in [-30.0, -1.0, -0.1, 0.0, 0.3, 1.0, 5.0, 40.0] {
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13, "exp {x}");
        }
        for (x, gamma) in [(1.0, 1.0), (2.0, 1.0), (3.0, 2.0), (5.0, 24.0), (1.5, 0.886_226_925_452_758)] {
            assert!((exp(ln_gamma(x)) / gamma - 1.0).abs() < 1e-12, "gamma {x}");
        }
    }
}
