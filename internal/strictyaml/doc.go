// Package strictyaml reads the files that people write for Postern, and writes
// files that it reads back.
//
// Reading is strict: an unknown or repeated key, an empty value, a value of the
// wrong type, a control character in a text, and the parts of YAML that let a
// file mean something else than it looks like (anchors, aliases, merge keys,
// tags, further documents) are errors with file, line and column, all reported
// at once. The rules of a domain are its own; [Document.Locate] puts their
// errors to lines as well.
//
// A type to read into is made of structures, slices, maps with text keys, text,
// truth values, whole numbers, time.Duration and what implements
// encoding.TextUnmarshaler, such as the types of net/netip. A type with
// anything else in it is a mistake of the program, which panics.
//
// The package guards the YAML library: files are bounded before it sees them,
// and its panics, which some malformed files cause in v1.19.2, become errors.
package strictyaml
