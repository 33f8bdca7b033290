// Package chaos holds the campaigns that cut solstice off wherever it can be cut off, and let fail whatever can fail. It has
// tests only.
//
// Each campaign has one kind of harm, real processes and real files, and ends every try with the same check: after a
// plain start the home is whole and the node runs where it should. go test runs a short form of each, drawn at random; make chaos
// goes through all of it, and then on at random for as long as it is told to.
package chaos
