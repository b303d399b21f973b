import "./viewer.css";
