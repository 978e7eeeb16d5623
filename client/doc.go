// Package client is the Go client of Postern's API, and owns the API's wire
// types: the server, the command line and every other caller use these.
//
// It needs nothing but the standard library.
package client
