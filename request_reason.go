package postern

// The reasons of an [Error], where a program or a person must tell mistakes of
// one field apart. The list is closed and documented in docs/outbound.md.
const (
	ReasonNotAHostname     Reason = "NotAHostname"     // not the form of a fully qualified hostname
	ReasonIPLiteral        Reason = "IPLiteral"        // an address where a name must be
	ReasonWildcard         Reason = "Wildcard"         // a pattern where a name must be
	ReasonTrailingDot      Reason = "TrailingDot"      //
	ReasonPrivateTLD       Reason = "PrivateTLD"       // a top-level domain that nobody owns, such as .local
	ReasonSpecialUseDomain Reason = "SpecialUseDomain" // reserved by the IETF, such as .test or home.arpa
	ReasonUnknownTLD       Reason = "UnknownTLD"       // in no public registry
	ReasonPublicSuffix     Reason = "PublicSuffix"     // under which others register, such as co.uk

	ReasonForbiddenTarget Reason = "ForbiddenTarget" // an address that no connection leads to
)

// RequestReasons lists every reason that an [Error] can have.
func RequestReasons() []Reason {
	return append([]Reason{
		ReasonNotAHostname, ReasonIPLiteral, ReasonWildcard, ReasonTrailingDot, ReasonPrivateTLD, ReasonSpecialUseDomain,
		ReasonUnknownTLD, ReasonPublicSuffix, ReasonForbiddenTarget,
	}, connectionRequestReasons()...)
}
