//! Closed sets whose members have one spelling.

/// Declares an enum whose variants each have one stable name, with `ALL` and `name`, ordered as declared.
macro_rules! named {
    ($(#[$meta:meta])* pub enum $type:ident { $($(#[$vmeta:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $($(#[$vmeta])* $variant,)+ }

        impl $type {
            /// Every member, in declaration order.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The one spelling of this member, as contracts, metrics and pages have it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

pub(crate) use named;
