//! A client for Azure Data Explorer (Kusto): commands, queries, replies, judged errors.
