/* An application of one SQLite version, for tests in which several versions use one database.
**
**   client write DATABASE WHO COUNT JOURNAL    COUNT rows into log, each a transaction of its own
**   client check DATABASE                      integrity_check, the counter, and what is in log
**
** A row is written again only after SQLITE_BUSY, which says that it was not written. Prints what came
** of it; exit code 1 after any other error, 2 when a look showed no whole transactions.
*/
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sqlite3 *db;

static int is_busy(int rc) { return (rc & 0xff) == SQLITE_BUSY; }

static void fail(const char *what, int rc) {
  printf("%s: %d %s\n", what, rc, sqlite3_errmsg(db));
  exit(1);
}

static int print_row(void *unused, int n, char **values, char **names) {
  for (int i = 0; i < n; i++) printf("%s%c", values[i] ? values[i] : "NULL", i + 1 < n ? ' ' : '\n');
  return 0;
}

/* Again and again while others are in the way. */
static void run(const char *sql) {
  int rc;
  while (is_busy(rc = sqlite3_exec(db, sql, print_row, 0, 0))) sqlite3_sleep(2);
  if (rc != SQLITE_OK) fail(sql, rc);
}

/* Row and counter are changed by one transaction, so no look may tell them apart. */
static void look(void) {
  sqlite3_stmt *stmt;
  const char *sql = "SELECT n - (SELECT count(*) FROM log) FROM counter";
  int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, 0);
  if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
  if (rc == SQLITE_ROW && sqlite3_column_int(stmt, 0) != 0) {
    printf("torn: counter and rows differ by %d\n", sqlite3_column_int(stmt, 0));
    exit(2);
  }
  if (rc != SQLITE_ROW && !is_busy(rc)) fail(sql, rc);
  sqlite3_finalize(stmt);
}

int main(int argc, char **argv) {
  int writes = argc == 6 && strcmp(argv[1], "write") == 0;
  if (!writes && !(argc == 3 && strcmp(argv[1], "check") == 0)) return 64;
  if (sqlite3_open(argv[2], &db) != SQLITE_OK) fail("open", sqlite3_errcode(db));
  sqlite3_busy_timeout(db, 5000);
  if (!writes) {
    run("PRAGMA integrity_check");
    run("SELECT n FROM counter");
    run("SELECT who, count(*), sum(k), sum(length(pad)) FROM log GROUP BY who ORDER BY who");
    return 0;
  }
  char *sql = sqlite3_mprintf("PRAGMA journal_mode = %s", argv[5]);
  run(sql);
  /* Small, so that all versions checkpoint by themselves, and all the time. */
  run("PRAGMA wal_autocheckpoint = 20");
  for (int k = 1; k <= atoi(argv[4]); k++) {
    sql = sqlite3_mprintf("INSERT INTO log VALUES (%Q, %d, randomblob(%d))", argv[3], k, 50 + k * 37 % 3000);
    run(sql);
    sqlite3_free(sql);
    look();
    if (k % 25 == 0) {
      const char *modes[] = {"passive", "full", "restart", "truncate"};
      sql = sqlite3_mprintf("PRAGMA wal_checkpoint(%s)", modes[k / 25 % 4]);
      int rc = sqlite3_exec(db, sql, 0, 0, 0);
      if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_LOCKED && !is_busy(rc)) fail(sql, rc);
      sqlite3_free(sql);
    }
  }
  printf("done %s\n", sqlite3_libversion());
  return sqlite3_close(db) == SQLITE_OK ? 0 : 1;
}
