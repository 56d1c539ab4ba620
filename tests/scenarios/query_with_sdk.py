"""What Microsoft's own Kusto client sees in a table of flights, as JSON."""
import json, sys
from azure.kusto.data import KustoClient, KustoConnectionStringBuilder

endpoint, database, table = sys.argv[1:]
client = KustoClient(KustoConnectionStringBuilder(endpoint))
query = (f"{table} | summarize count_=count(), distance=sum(distance), flights=sum(flight), carriers=dcount(carrier), "
         "first_hour=min(time_hour), last_hour=max(time_hour)")
row = client.execute(database, query).primary_results[0][0]
print(json.dumps({"count": row["count_"], "distance": row["distance"], "flights": row["flights"], "carriers": row["carriers"],
                  "first_hour": row["first_hour"].strftime("%Y-%m-%dT%H:%M:%SZ"),
                  "last_hour": row["last_hour"].strftime("%Y-%m-%dT%H:%M:%SZ")}))
