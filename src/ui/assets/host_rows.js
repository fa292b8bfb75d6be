// What the row of a host says.

export const PHASES = ["LocalBoot", "Held", "Assigned", "Offered", "Installing", "Installed", "Failed"];
export const why = (row) => (row.stall ? row.stall.title : row.isNew ? "new machine" : (row.note ?? ""));
export const needsYou = (row) => Boolean(row.stall || row.isNew || row.phase === "Failed");
/** Returns the group of the strip "needs you" that a host belongs to. */
export const groupOf = (row) =>
  row.stall ? row.stall.reason : row.phase === "Failed" ? "failed" : row.isNew ? "new" : null;

export const powerText = (row) =>
  row.power ? (row.target && row.target !== row.power ? `${row.power} → ${row.target}` : row.power) : "";
