//! Each hub: the list of a file's rules made tests. Owns: on which engines they run.

/// Rules of hubs, each a test on every engine with its hub's half.
macro_rules! on_each_hub {
    (@on $engine:ident, $make:expr, $hubs:expr, $($rule:ident,)*) => {
        mod $engine {
            use super::*;

            fn make() -> Box<dyn Engine> {
                Box::new($make)
            }

            $(
                #[test]
                fn $rule() {
                    super::$rule(make, &$hubs);
                }
            )*
        }
    };
    ($($rule:ident,)*) => {
        on_each_hub!(@on mls, crate::MlsEngine::new(), crate::MlsPublic::new(), $($rule,)*);
        #[cfg(feature = "stand-in")]
        on_each_hub!(@on stand_in, crate::StandInEngine::new(), crate::StandInPublic::new(), $($rule,)*);
    };
}
