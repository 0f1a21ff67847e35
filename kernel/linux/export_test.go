package linux

// Topics are the lists of system calls that every guest has.
var Topics = topics
