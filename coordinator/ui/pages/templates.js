// Activities to begin with.

const rest = (table) => `sink:
  type: AzureDataExplorer
  endpoint: https://CLUSTER.REGION.kusto.windows.net
  database: DATABASE
  table: ${table}
  createTable: true
  auth: {type: managedIdentity}
staging:
  type: AzureBlob
  container: https://ACCOUNT.blob.core.windows.net/staging
  auth: {type: managedIdentity}
settings:
  chunkSizeMB: 900
`;

export const TEMPLATES = {
  'CSV files': `name: taxi
source:
  type: FileSystem
  connectVia: default
  folderPath: /exports/taxi
  wildcardFileName: "**/*.csv.gz"
  format: {type: DelimitedText, firstRowAsHeader: true}
${rest('Taxi')}`,
  'JSON lines': `name: events
source:
  type: FileSystem
  connectVia: default
  folderPath: /exports/events
  wildcardFileName: "**/*.jsonl"
  format: {type: Json}
${rest('Events')}`,
  'Parquet files': `name: orders
source:
  type: FileSystem
  connectVia: default
  folderPath: /exports/orders
  wildcardFileName: "**/*.parquet"
  format: {type: Parquet}
${rest('Orders')}`,
  'Replace a table': `name: products
source:
  type: FileSystem
  connectVia: default
  folderPath: /exports/products
  wildcardFileName: "*.csv"
  format: {type: DelimitedText, firstRowAsHeader: true}
${rest('Products').replace('  createTable: true\n', '  createTable: true\n  publish: replace\n')}`,
};
