// Package postern is the domain of Postern, the private door of a SaaS
// platform: which customers' VPC endpoints reach which of their tenants, over
// AWS PrivateLink only.
//
// It holds the words, the rules and the typed errors, as values and pure
// functions over the standard library. It opens no socket, reads no clock and
// knows no database: packages below internal/ do, and depend on this one.
package postern
