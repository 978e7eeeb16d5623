package postern

// Finding is something that a check of a data connection found at the
// customer's endpoint service: what is wrong, or may soon be.
type Finding struct {
	Reason  Reason
	Warning bool   // works today
	Message string // what is wrong and what to do; no addresses, request IDs or times
}

// The reasons of a [Finding], in the order in which they are met on the way to
// a query.
const (
	ReasonUnreachable Reason = "Unreachable" // no TCP connection through the endpoint
	ReasonNotTLS      Reason = "NotTLS"      // the port does not speak TLS
	ReasonTLSTooOld   Reason = "TLSTooOld"   // nothing newer than TLS 1.1

	ReasonSelfSigned            Reason = "SelfSigned"            // the certificate is its own authority
	ReasonPrivateCA             Reason = "PrivateCA"             // of an authority that is not publicly trusted
	ReasonIncompleteChain       Reason = "IncompleteChain"       // intermediate certificates are not sent
	ReasonCertificateUnsuitable Reason = "CertificateUnsuitable" // not for servers, or past its authority's constraints
	ReasonNameMismatch          Reason = "NameMismatch"          // another hostname's
	ReasonCommonNameOnly        Reason = "CommonNameOnly"        // the hostname is in the CN and in no SAN
	ReasonCertificateExpired    Reason = "CertificateExpired"
	ReasonNotYetValid           Reason = "NotYetValid"
	ReasonExpiresSoon           Reason = "ExpiresSoon" // a warning

	ReasonClusterStarting Reason = "ClusterStarting" // Trino says so itself
	ReasonNotTrino        Reason = "NotTrino"        // /v1/info is not answered as Trino does
)

func findingReasons() []Reason {
	return []Reason{
		ReasonUnreachable, ReasonNotTLS, ReasonTLSTooOld,
		ReasonSelfSigned, ReasonPrivateCA, ReasonIncompleteChain, ReasonCertificateUnsuitable,
		ReasonNameMismatch, ReasonCommonNameOnly, ReasonCertificateExpired, ReasonNotYetValid, ReasonExpiresSoon,
		ReasonClusterStarting, ReasonNotTrino,
	}
}
