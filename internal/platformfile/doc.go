// Package platformfile reads and writes the file in which a SaaS vendor
// describes its platform, and carries the built-in one.
//
// Reading is strict: an unknown or repeated key, a value of the wrong type and
// every rule of [postern.Platform.Validate] is an error with its file, line
// and column, and all of them are reported at once. The keys are documented in
// docs/platform-file.md.
//
// What a platform must be is decided in the domain package, and how strict YAML
// is read in strictyaml.
package platformfile
