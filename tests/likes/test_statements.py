"""Tests of rtdeliver.likes.statements."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.likes.statements import read_sql, read_statements

SQL = Path(__file__).parents[2] / "rtdeliver" / "likes" / "sql"


class ReadTests(SynchronousTestCase):
    def test_a_file_is_read_as_it_is(self) -> None:
        self.assertEqual(read_sql("schema_1"), (SQL / "schema_1.sql").read_text("utf-8"))

    def test_a_file_that_is_not_there_is_an_error(self) -> None:
        with self.assertRaises(FileNotFoundError):
            read_statements("members", "misspelt")

    def test_a_statement_goes_from_its_name_to_its_semicolon(self) -> None:
        self.assertEqual(
            read_statements("comments")["last_comments"],
            "SELECT comment, member, text, at FROM comments WHERE video = :video\n"
            "ORDER BY comment DESC LIMIT :limit;",
        )

    def test_each_name_of_all_files_has_one_statement(self) -> None:
        files = [path for path in SQL.glob("*.sql") if not path.name.startswith("schema_")]
        names = [
            line.removeprefix("-- name: ")
            for path in files
            for line in path.read_text("utf-8").splitlines()
            if line.startswith("-- name:")
        ]
        statements = read_statements(*(path.stem for path in files))
        self.assertEqual(sorted(statements), sorted(names))
        for name, statement in statements.items():
            self.assertEqual(statement.count(";"), 1, name)
