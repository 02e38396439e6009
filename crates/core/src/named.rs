//! Closed sets whose members have one spelling, the same in configuration, reports, JSON and pages.

/// Declares an enum whose variants each have one stable name, with `ALL`, `name`, `Display` and `FromStr`.
macro_rules! named {
    ($(#[$meta:meta])* pub enum $type:ident { $($(#[$vmeta:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $($(#[$vmeta])* $variant,)+ }

        impl $type {
            /// Every member, in declaration order.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The one spelling of this member, as contracts and pages have it.
            pub const fn name(self) -> &'static str {
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
