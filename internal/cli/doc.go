// Package cli is the command line of Postern for customers and operators. It
// knows the API through the client package only, like any other program; the
// platform's file is the one thing that it reads by itself.
//
// A command prints what was asked for on standard output, as text for people
// or as the API's JSON, and everything else on standard error, one line a
// problem. It ends with 0 when it did what was asked, 1 when that was refused
// or failed, and 2 when the command line itself is wrong.
package cli
