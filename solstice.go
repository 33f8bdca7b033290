// Package solstice holds the words that the parts of Solstice share: the plan that a chain decided on,
// the home of a node with every path in it, the errors that say what comes next, and the status
// that every interface shows. It imports the standard library only.
package solstice
