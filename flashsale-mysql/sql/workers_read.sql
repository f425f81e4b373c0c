SELECT worker, holder, begins_at, ends_at FROM worker_lease WHERE worker BETWEEN ? AND ?
