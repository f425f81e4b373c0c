DELETE FROM _sqlx_migrations WHERE success = FALSE
