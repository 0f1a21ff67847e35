package task

// Task is one thread of a user program.
type Task struct{}
