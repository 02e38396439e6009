//! Closed sets whose members have one spelling, the same in configuration, reports, JSON and pages.

/// Declares an enum whose variants each have one stable name, with `ALL`, `name`, `Display` and `FromStr`; ordered as
/// declared.
#[macro_export]
macro_rules! named {
    ($(#[$meta:meta])* $vis:vis enum $type:ident { $($(#[$vmeta:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $type { $($(#[$vmeta])* $variant,)+ }

        impl $type {
            /// Every member, in declaration order.
            $vis const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The one spelling of this member, as contracts, metrics and pages have it.
            $vis const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::UnknownName;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|member| member.name() == name).ok_or_else(|| $crate::UnknownName {
                    given: name.to_owned(),
                    known: Self::ALL.iter().map(|member| member.name()).collect(),
                })
            }
        }
    };
}

pub(crate) use named;
